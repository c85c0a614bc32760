// threads BUNDLE [--short]
//
// One engine, many threads: results do not depend on who else is at work, and whatever is freed or cancelled while others
// use it ends their work in order. A deadlock ends the test by its alarm. --short: fewer requests, for sanitizers.

#include "common.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <unistd.h>

namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes result_of(const diffbir_request *request) {
    diffbir_image *image = nullptr;
    OK(diffbir_request_image(request, 0, &image));
    const std::uint8_t *data = diffbir_image_data(image);
    CHECK(data != nullptr);
    Bytes bytes(data, data + 3 * std::size_t{diffbir_image_width(image)} * diffbir_image_height(image));
    diffbir_image_free(image);
    return bytes;
}

// Lets a test wait for a request's first event, and holds the request there until the test lets it go.
class Gate {
public:
    static int hold(const diffbir_progress *, void *user_data) {
        auto &gate = *static_cast<Gate *>(user_data);
        std::unique_lock<std::mutex> lock(gate.mutex_);
        gate.inside_ = true;
        gate.changed_.notify_all();
        gate.changed_.wait(lock, [&] { return gate.open_; });
        return 1;
    }
    void await() {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return inside_; });
    }
    void open() {
        std::lock_guard<std::mutex> lock(mutex_);
        open_ = true;
        changed_.notify_all();
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool inside_ = false;
    bool open_ = false;
};

// Counts sampling steps; a test may wait for the first one.
class Steps {
public:
    static int count(const diffbir_progress *progress, void *user_data) {
        auto &steps = *static_cast<Steps *>(user_data);
        if (progress->event == DIFFBIR_EVENT_STEP) {
            std::lock_guard<std::mutex> lock(steps.mutex_);
            steps.seen_ += 1;
            steps.changed_.notify_all();
        }
        return 1;
    }
    void await_first() {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [&] { return seen_ > 0; });
    }
    int seen() {
        std::lock_guard<std::mutex> lock(mutex_);
        return seen_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    int seen_ = 0;
};

// More than can be done before a test has cancelled: an end by itself would be a failure.
constexpr std::uint32_t MANY = 1000;

void many_share_one_engine(const char *bundle, int requests) {
    constexpr int threads = 8;
    constexpr int seeds = 5;
    diffbir_engine *engine = open_engine(bundle, 0, 0);
    std::vector<Bytes> expected;
    for (int seed = 0; seed < seeds; seed++) {
        diffbir_request *request = tiny_request(engine, 1, seed);
        OK(diffbir_request_run(request));
        expected.push_back(result_of(request));
        CHECK(seed == 0 || expected[seed] != expected[0]);
        diffbir_request_free(request);
    }
    std::atomic<int> next{0};
    std::atomic<int> done{0};
    std::vector<std::thread> pool;
    for (int t = 0; t < threads; t++) {
        pool.emplace_back([&] {
            for (int k = next++; k < requests; k = next++) {
                diffbir_request *request = tiny_request(engine, 1, k % seeds);
                if ((k / seeds) % 2 == 0) {
                    OK(diffbir_request_run(request));
                } else {
                    bool flag = false;
                    OK(diffbir_request_submit(request));
                    OK(diffbir_request_wait(request, DIFFBIR_FOREVER, &flag));
                    CHECK(flag);
                }
                CHECK(result_of(request) == expected[k % seeds]);
                diffbir_request_free(request);
                done++;
            }
        });
    }
    for (std::thread &thread : pool) {
        thread.join();
    }
    CHECK(done == requests);
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
}

void another_thread_stops(const char *bundle, bool submitted, bool by_handle) {
    diffbir_engine *engine = open_engine(bundle, 0, 0);
    Steps steps;
    diffbir_cancel *cancel = nullptr;
    OK(diffbir_cancel_new(&cancel));
    diffbir_request *request = tiny_request(engine, MANY, 1);
    OK(diffbir_request_set_progress(request, Steps::count, &steps, nullptr));
    OK(diffbir_request_set_cancel(request, cancel));
    OK(diffbir_request_stop(request)); // not at work yet: nothing to stop
    int at_trigger = 0;
    std::thread stopper([&] {
        steps.await_first();
        OK(by_handle ? diffbir_cancel_trigger(cancel) : diffbir_request_stop(request));
        at_trigger = steps.seen();
    });
    if (submitted) {
        OK(diffbir_request_submit(request));
        FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_wait(request, DIFFBIR_FOREVER, nullptr));
    } else {
        FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_run(request));
    }
    stopper.join();
    // One may have been on its way when it was stopped.
    CHECK(steps.seen() <= at_trigger + 1);
    CHECK(diffbir_cancel_is_triggered(cancel) == by_handle);

    // There is no way back for the handle; a request that was stopped may run again.
    const diffbir_options options = tiny_options(1);
    OK(diffbir_request_set_options(request, &options));
    if (by_handle) {
        FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_run(request));
    } else {
        OK(diffbir_request_run(request));
    }
    diffbir_request_free(request);
    diffbir_cancel_free(cancel);
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
}

// Freed at work: the call waits for what runs, and whoever waits for a request learns that it will not be.
void engine_freed_with_a_full_queue(const char *bundle) {
    diffbir_engine *engine = open_engine(bundle, 0, 0);
    Steps steps;
    std::vector<diffbir_request *> requests;
    for (int k = 0; k < 8; k++) {
        diffbir_request *request = tiny_request(engine, MANY, k);
        OK(diffbir_request_set_progress(request, Steps::count, &steps, nullptr));
        OK(diffbir_request_submit(request));
        requests.push_back(request);
    }
    std::vector<std::thread> waiting;
    for (diffbir_request *request : requests) {
        waiting.emplace_back([request] {
            diffbir_error *error = diffbir_request_wait(request, DIFFBIR_FOREVER, nullptr);
            const diffbir_code code = diffbir_error_code(error);
            CHECK(code == DIFFBIR_CODE_CANCELLED || code == DIFFBIR_CODE_INVALID_STATE);
            diffbir_error_free(error);
        });
    }
    steps.await_first();
    diffbir_engine_free(engine);
    // None runs any more: what `user_data` points to may go.
    const int seen = steps.seen();
    for (std::thread &thread : waiting) {
        thread.join();
    }
    CHECK(steps.seen() == seen);
    for (diffbir_request *request : requests) {
        bool done = false;
        diffbir_error *error = diffbir_request_poll(request, &done);
        CHECK(error != nullptr && done);
        diffbir_error_free(error);
        FAILS(DIFFBIR_CODE_INVALID_STATE, diffbir_request_submit(request));
        diffbir_request_free(request);
    }
    CHECK(diffbir_live_handles() == 0);
}

// Freed by a thread while others run requests of it.
void engine_freed_while_threads_run(const char *bundle) {
    diffbir_engine *engine = open_engine(bundle, 0, 0);
    Steps steps;
    std::vector<std::thread> pool;
    for (int k = 0; k < 4; k++) {
        diffbir_request *request = tiny_request(engine, MANY, k);
        OK(diffbir_request_set_progress(request, Steps::count, &steps, nullptr));
        pool.emplace_back([request] {
            diffbir_error *error = diffbir_request_run(request);
            const diffbir_code code = diffbir_error_code(error);
            CHECK(code == DIFFBIR_CODE_CANCELLED || code == DIFFBIR_CODE_INVALID_STATE);
            diffbir_error_free(error);
            diffbir_request_free(request);
        });
    }
    steps.await_first();
    diffbir_engine_free(engine);
    for (std::thread &thread : pool) {
        thread.join();
    }
    CHECK(diffbir_live_handles() == 0);
}

void a_full_queue_says_so(const char *bundle) {
    diffbir_engine *engine = open_engine(bundle, 2, 0);
    Gate gate;
    diffbir_request *running = tiny_request(engine, 1, 1);
    OK(diffbir_request_set_progress(running, Gate::hold, &gate, nullptr));
    OK(diffbir_request_submit(running));
    gate.await(); // so it waits no more
    diffbir_request *waiting[2];
    for (diffbir_request *&request : waiting) {
        request = tiny_request(engine, 1, 1);
        OK(diffbir_request_submit(request));
    }
    diffbir_request *late = tiny_request(engine, 1, 1);
    FAILS(DIFFBIR_CODE_BUSY, diffbir_request_submit(late));
    FAILS(DIFFBIR_CODE_BUSY, diffbir_request_submit(late));
    gate.open();
    OK(diffbir_request_wait(running, DIFFBIR_FOREVER, nullptr));
    const Bytes expected = result_of(running);
    for (diffbir_request *request : waiting) {
        OK(diffbir_request_wait(request, DIFFBIR_FOREVER, nullptr));
        CHECK(result_of(request) == expected);
        diffbir_request_free(request);
    }
    // Refused is not spoilt.
    OK(diffbir_request_submit(late));
    OK(diffbir_request_wait(late, DIFFBIR_FOREVER, nullptr));
    CHECK(result_of(late) == expected);
    diffbir_request_free(late);
    diffbir_request_free(running);
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
}

void a_running_request_is_freed(const char *bundle) {
    diffbir_engine *engine = open_engine(bundle, 0, 0);
    {
        // On its own thread: the call ends by itself.
        Gate gate;
        diffbir_request *request = tiny_request(engine, MANY, 1);
        OK(diffbir_request_set_progress(request, Gate::hold, &gate, nullptr));
        std::thread runner([&] { FAILS(DIFFBIR_CODE_CANCELLED, diffbir_request_run(request)); });
        gate.await();
        // Waits for the callback.
        std::thread freer([&] { diffbir_request_free(request); });
        gate.open();
        freer.join();
        FAILS(DIFFBIR_CODE_INVALID_ARGUMENT, diffbir_request_run(request));
        runner.join();
    }
    {
        // In the queue, with a thread that waits for it and one behind it that goes on.
        Gate gate;
        diffbir_request *request = tiny_request(engine, MANY, 1);
        diffbir_request *next = tiny_request(engine, 1, 1);
        OK(diffbir_request_set_progress(request, Gate::hold, &gate, nullptr));
        OK(diffbir_request_submit(request));
        OK(diffbir_request_submit(next));
        gate.await();
        std::atomic<bool> asked{false};
        std::thread waiter([&] {
            asked = true;
            // Freed before the call: no handle; during the call: cancelled.
            diffbir_error *error = diffbir_request_wait(request, DIFFBIR_FOREVER, nullptr);
            const diffbir_code code = diffbir_error_code(error);
            CHECK(code == DIFFBIR_CODE_CANCELLED || code == DIFFBIR_CODE_INVALID_ARGUMENT);
            diffbir_error_free(error);
        });
        while (!asked) {
            std::this_thread::yield();
        }
        std::thread freer([&] { diffbir_request_free(request); });
        gate.open();
        freer.join();
        waiter.join();
        OK(diffbir_request_wait(next, DIFFBIR_FOREVER, nullptr));
        diffbir_request_free(next);
    }
    diffbir_engine_free(engine);
    CHECK(diffbir_live_handles() == 0);
}

// What a callback may do with the engine that calls it.
struct Callback {
    diffbir_engine *engine = nullptr;
    diffbir_request *other = nullptr;
    bool frees = false;
    bool called = false;

    static int call(const diffbir_progress *, void *user_data) {
        auto &self = *static_cast<Callback *>(user_data);
        if (self.called) {
            return 1;
        }
        self.called = true;
        if (self.frees) {
            diffbir_engine_free(self.engine); // the queue's thread waits for the networks that this request holds
        } else {
            FAILS(DIFFBIR_CODE_INVALID_STATE, diffbir_request_run(self.other));
            OK(diffbir_request_submit(self.other));
        }
        return 1;
    }
};

void a_callback_calls_the_library(const char *bundle) {
    for (bool submitted : {false, true}) {
        for (bool frees : {false, true}) {
            Callback callback;
            callback.engine = open_engine(bundle, 0, 0);
            callback.frees = frees;
            callback.other = tiny_request(callback.engine, 1, 1);
            diffbir_request *request = tiny_request(callback.engine, 1, 1);
            OK(diffbir_request_set_progress(request, Callback::call, &callback, nullptr));
            if (frees && !submitted) {
                OK(diffbir_request_submit(callback.other));
            }
            diffbir_error *error = nullptr;
            if (submitted) {
                OK(diffbir_request_submit(request));
                if (frees) {
                    // Behind this one, unless the callback was faster.
                    diffbir_error_free(diffbir_request_submit(callback.other));
                }
                error = diffbir_request_wait(request, DIFFBIR_FOREVER, nullptr);
            } else {
                error = diffbir_request_run(request);
            }
            CHECK(callback.called);
            CHECK(diffbir_error_code(error) == (frees ? DIFFBIR_CODE_CANCELLED : DIFFBIR_CODE_OK));
            diffbir_error_free(error);
            error = diffbir_request_wait(callback.other, DIFFBIR_FOREVER, nullptr);
            if (frees) {
                // Stopped, never put into the queue, or done before the callback came.
                const diffbir_code code = diffbir_error_code(error);
                CHECK(code == DIFFBIR_CODE_CANCELLED || code == DIFFBIR_CODE_INVALID_STATE ||
                      (code == DIFFBIR_CODE_OK && !submitted));
            } else {
                CHECK(error == nullptr);
            }
            diffbir_error_free(error);
            diffbir_request_free(request);
            diffbir_request_free(callback.other);
            diffbir_engine_free(callback.engine);
            CHECK(diffbir_live_handles() == 0);
        }
    }
}

// Every thread frees what all hold: one of them does it.
void all_free_the_same() {
    for (int round = 0; round < 200; round++) {
        diffbir_cancel *cancel = nullptr;
        OK(diffbir_cancel_new(&cancel));
        diffbir_error *error = diffbir_abi_check(0);
        std::vector<std::thread> pool;
        for (int t = 0; t < 4; t++) {
            pool.emplace_back([&] {
                diffbir_error_free(diffbir_cancel_trigger(cancel));
                const diffbir_code code = diffbir_error_code(error);
                CHECK(code == DIFFBIR_CODE_ABI || code == DIFFBIR_CODE_INVALID_ARGUMENT);
                diffbir_cancel_free(cancel);
                diffbir_error_free(error);
            });
        }
        for (std::thread &thread : pool) {
            thread.join();
        }
    }
    CHECK(diffbir_live_handles() == 0);
}

} // namespace

int main(int argc, char **argv) {
    CHECK(argc >= 2);
    const bool is_short = argc > 2 && std::string(argv[2]) == "--short";
    const char *bundle = argv[1];
    alarm(120);
    OK(DIFFBIR_ABI_CHECK());
    many_share_one_engine(bundle, is_short ? 24 : 200);
    for (bool submitted : {false, true}) {
        for (bool by_handle : {false, true}) {
            another_thread_stops(bundle, submitted, by_handle);
        }
    }
    engine_freed_with_a_full_queue(bundle);
    engine_freed_while_threads_run(bundle);
    a_full_queue_says_so(bundle);
    a_running_request_is_freed(bundle);
    a_callback_calls_the_library(bundle);
    all_free_the_same();
    return 0;
}
