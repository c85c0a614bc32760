/* exit BUNDLE WAY EVENT [SPIN]
 *
 * Ends the process with requests at work, at event number EVENT and SPIN rounds of a loop later. It has to end with 0.
 * WAY: `submitted` (one thread of ONNX Runtime) or `threads` (as many as there are): main returns. `run`: main returns
 * while other threads run requests, and run them again. `callback`: a progress function calls exit(). `freed`: it frees
 * the engine, and main returns. `static`: the engine is freed by a handler that was registered before it was made.
 * `held`: a progress function never returns. */

#include "common.h"

#include <pthread.h>
#include <unistd.h>

/* More than is ever done: the request is at work when the process ends. */
enum { STEPS = 1000, REQUESTS = 3 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int events = 0;
static int awaited = 0;
static const char *way = "";
static diffbir_engine *engine = NULL;

static bool is(const char *name) { return strcmp(way, name) == 0; }

static int on_progress(const diffbir_progress *progress, void *user_data) {
    (void)progress;
    (void)user_data;
    pthread_mutex_lock(&lock);
    events++;
    bool now = events == awaited;
    pthread_cond_broadcast(&changed);
    while (now && is("held")) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
    if (now && is("callback")) {
        exit(0);
    }
    if (now && is("freed")) {
        diffbir_engine_free(engine);
    }
    return 1;
}

static void await_event(void) {
    pthread_mutex_lock(&lock);
    while (events < awaited) {
        pthread_cond_wait(&changed, &lock);
    }
    pthread_mutex_unlock(&lock);
}

static void *run(void *request) {
    /* The host goes on as long as it can. */
    diffbir_error_free(diffbir_request_run(request));
    diffbir_error_free(diffbir_request_run(request));
    return NULL;
}

static void free_engine(void) { diffbir_engine_free(engine); }

static void start(void) {
    for (int k = 0; k < REQUESTS; k++) {
        diffbir_request *request = tiny_request(engine, STEPS, k);
        OK(diffbir_request_set_progress(request, on_progress, NULL, NULL));
        pthread_t thread;
        if (is("run")) {
            CHECK(pthread_create(&thread, NULL, run, request) == 0);
        } else {
            OK(diffbir_request_submit(request));
        }
    }
}

int main(int argc, char **argv) {
    CHECK(argc >= 4);
    way = argv[2];
    awaited = atoi(argv[3]);
    if (is("static")) {
        /* As the destructor of a C++ host's global object. */
        CHECK(atexit(free_engine) == 0);
    }
    engine = open_engine(argv[1], 0, is("threads") ? 0 : 1);
    start();
    await_event();
    if (is("callback")) {
        pause();
    }
    for (volatile int k = argc > 4 ? atoi(argv[4]) : 0; k > 0; k--) {
    }
    return 0;
}
