/* A library to preload: the call number $FAULT_AT (from 1) among those that write files fails as $FAULT_KIND says.
 *
 * Counted are open for writing, write, pwrite, fsync, fdatasync, rename (in all forms), link, mkdir, ftruncate and chmod; of write
 * only what goes to regular files. Kinds: enospc, eio, short (half of it is written, the next call fails with ENOSPC),
 * edquot, erofs. With $FAULT_LASTS every later call fails as well. The number of calls is appended to $FAULT_COUNT at exit. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;
static atomic_int pending;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int code(void) {
    const char *kind = getenv("FAULT_KIND");
    if (!kind) return 0;
    if (!strcmp(kind, "eio")) return EIO;
    if (!strcmp(kind, "edquot")) return EDQUOT;
    if (!strcmp(kind, "erofs")) return EROFS;
    return ENOSPC;
}

/* Whether this call fails. */
static int fails(void) {
    const char *at = getenv("FAULT_AT");
    long number = atomic_fetch_add(&calls, 1) + 1;
    if (atomic_exchange(&pending, 0)) {
        errno = ENOSPC;
        return 1;
    }
    if (!at || !atol(at)) return 0;
    if (number == atol(at) || (getenv("FAULT_LASTS") && number > atol(at))) {
        errno = code();
        return 1;
    }
    return 0;
}

static int is_short(void) {
    const char *kind = getenv("FAULT_KIND");
    return kind && !strcmp(kind, "short");
}

static int is_regular(int fd) {
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (is_regular(fd) && fails()) {
        if (!is_short() || size < 2) return -1;
        atomic_store(&pending, 1);
        return REAL(write)(fd, data, size / 2);
    }
    return REAL(write)(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_regular(fd) && fails() ? -1 : REAL(writev)(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    return is_regular(fd) && fails() ? -1 : REAL(pwrite64)(fd, data, size, at);
}

#define OPEN(name, ...)                                                             \
    mode_t mode = 0;                                                                \
    if (flags & (O_CREAT | O_TMPFILE)) {                                            \
        va_list rest;                                                               \
        va_start(rest, flags);                                                      \
        mode = va_arg(rest, mode_t);                                                \
        va_end(rest);                                                               \
    }                                                                               \
    if ((flags & (O_WRONLY | O_RDWR)) && strncmp(path, "/dev/", 5) && fails()) return -1; \
    return REAL(name)(__VA_ARGS__, mode);

int open(const char *path, int flags, ...) { OPEN(open, path, flags) }
int open64(const char *path, int flags, ...) { OPEN(open64, path, flags) }
int openat(int folder, const char *path, int flags, ...) { OPEN(openat, folder, path, flags) }
int openat64(int folder, const char *path, int flags, ...) { OPEN(openat64, folder, path, flags) }

int fsync(int fd) { return fails() ? -1 : REAL(fsync)(fd); }
int fdatasync(int fd) { return fails() ? -1 : REAL(fdatasync)(fd); }
int rename(const char *from, const char *to) { return fails() ? -1 : REAL(rename)(from, to); }
int renameat(int a, const char *from, int b, const char *to) { return fails() ? -1 : REAL(renameat)(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    return fails() ? -1 : REAL(renameat2)(a, from, b, to, flags);
}
int link(const char *from, const char *to) { return fails() ? -1 : REAL(link)(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
    return fails() ? -1 : REAL(linkat)(a, from, b, to, flags);
}
int mkdir(const char *path, mode_t mode) { return fails() ? -1 : REAL(mkdir)(path, mode); }
int ftruncate64(int fd, off64_t size) { return is_regular(fd) && fails() ? -1 : REAL(ftruncate64)(fd, size); }
int fchmod(int fd, mode_t mode) { return fails() ? -1 : REAL(fchmod)(fd, mode); }

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("FAULT_COUNT");
    FILE *file = path ? fopen(path, "we") : NULL;
    if (file) {
        fprintf(file, "%ld\n", (long)atomic_load(&calls));
        fclose(file);
    }
}
