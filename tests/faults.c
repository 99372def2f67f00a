/* A layer of faults between a process and its disk, loaded with LD_PRELOAD.
 *
 * Every call that changes a file below FAULT_ROOT is counted, over all processes, in the shared page FAULT_STATE:
 *
 *     int64 count      calls so far
 *     int64 at         the call that fails; 0: none
 *     int64 kind       how: see below
 *     int64 full       set by ENOSPC: from then on nothing can be written
 *     int64 hit        which call failed (how many did)
 *
 * Kinds: 1 ENOSPC, and the disk stays full; 2 EIO, once; 3 a short write, then a full disk; 4 SIGKILL of this process; 5 SIGKILL of its
 * group; 6 the clock jumps by a day, there or back, at that call and stays there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { ENOSPC_KIND = 1, EIO_KIND, SHORT_KIND, KILL_KIND, GROUP_KIND, CLOCK_KIND };

struct state {
    _Atomic int64_t count, at, kind, full, hit, shift;
};

static struct state *state;
static char root[PATH_MAX];
static size_t root_length;

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULT_STATE"), *below = getenv("FAULT_ROOT");
    if (!file || !below) return;
    int handle = (int)open(file, O_RDWR | O_CLOEXEC);
    if (handle < 0) return;
    void *page = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
    if (page == MAP_FAILED) return;
    snprintf(root, sizeof root, "%s", below);
    root_length = strlen(root);
    state = page;
}

static int is_ours(const char *path) {
    if (!state || !path) return 0;
    if (path[0] == '/') return strncmp(path, root, root_length) == 0;
    char here[PATH_MAX];
    return getcwd(here, sizeof here) && strncmp(here, root, root_length) == 0;
}

static int is_our_handle(int handle) {
    if (!state || handle < 3) return 0;
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return path[0] == '/' && strncmp(path, root, root_length) == 0;
}

/* 0: the call may go on; an errno: it fails; -1: a short write. `grows`: whether the call needs room. */
static int fault(int grows) {
    int64_t number = atomic_fetch_add(&state->count, 1) + 1;
    if (number == atomic_load(&state->at)) {
        atomic_fetch_add(&state->hit, 1);
        switch (atomic_load(&state->kind)) {
        case ENOSPC_KIND: atomic_store(&state->full, 1); break;
        case EIO_KIND: return EIO;
        case SHORT_KIND: atomic_store(&state->full, 1); return -1;
        case KILL_KIND: kill(getpid(), SIGKILL); break;
        case GROUP_KIND: kill(0, SIGKILL); break;
        case CLOCK_KIND: atomic_store(&state->shift, number % 2 ? 86400 : -86400); break;
        }
    }
    return grows && atomic_load(&state->full) ? ENOSPC : 0;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)
#define FAIL_IF(ours, grows, bad) \
    if (ours) { int why = fault(grows); if (why > 0) { errno = why; return bad; } }

ssize_t write(int handle, const void *data, size_t size) {
    REAL(ssize_t, write, int, const void *, size_t);
    if (is_our_handle(handle)) {
        int why = fault(1);
        if (why > 0) { errno = why; return -1; }
        if (why < 0) size = size / 2;
    }
    return real(handle, data, size);
}

#define AT(name) \
    ssize_t name(int handle, const void *data, size_t size, off_t at) { \
        REAL(ssize_t, name, int, const void *, size_t, off_t); \
        if (is_our_handle(handle)) { \
            int why = fault(1); \
            if (why > 0) { errno = why; return -1; } \
            if (why < 0) size = size / 2; \
        } \
        return real(handle, data, size, at); \
    }
AT(pwrite)
AT(pwrite64)

ssize_t writev(int handle, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    FAIL_IF(is_our_handle(handle), 1, -1)
    return real(handle, parts, count);
}

ssize_t sendfile(int to, int from, off_t *at, size_t size) {
    REAL(ssize_t, sendfile, int, int, off_t *, size_t);
    FAIL_IF(is_our_handle(to), 1, -1)
    return real(to, from, at, size);
}

ssize_t copy_file_range(int from, off_t *at, int to, off_t *there, size_t size, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off_t *, int, off_t *, size_t, unsigned);
    FAIL_IF(is_our_handle(to), 1, -1)
    return real(from, at, to, there, size, flags);
}

#define ON_HANDLE(name, grows) \
    int name(int handle) { \
        REAL(int, name, int); \
        FAIL_IF(is_our_handle(handle), grows, -1) \
        return real(handle); \
    }
ON_HANDLE(fsync, 1)
ON_HANDLE(fdatasync, 1)

#define SIZED(name, kind) \
    int name(int handle, kind size) { \
        REAL(int, name, int, kind); \
        FAIL_IF(is_our_handle(handle), 1, -1) \
        return real(handle, size); \
    }
SIZED(ftruncate, off_t)
SIZED(ftruncate64, off64_t)

#define BOTH(name) \
    int name(const char *from, const char *to) { \
        REAL(int, name, const char *, const char *); \
        FAIL_IF(is_ours(to), 0, -1) \
        return real(from, to); \
    }
BOTH(rename)
BOTH(link)
BOTH(symlink)

int renameat(int there, const char *from, int here, const char *to) {
    REAL(int, renameat, int, const char *, int, const char *);
    FAIL_IF(is_ours(to), 0, -1)
    return real(there, from, here, to);
}

int mkdir(const char *path, mode_t mode) {
    REAL(int, mkdir, const char *, mode_t);
    FAIL_IF(is_ours(path), 1, -1)
    return real(path, mode);
}

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    FAIL_IF(is_ours(path), 0, -1)
    return real(path);
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        FAIL_IF((flags & (O_WRONLY | O_RDWR | O_CREAT)) && is_ours(path), (flags & O_CREAT) != 0, -1) \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPEN_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(int, name, int, const char *, int, ...); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more); \
        FAIL_IF((flags & (O_WRONLY | O_RDWR | O_CREAT)) && is_ours(path), (flags & O_CREAT) != 0, -1) \
        return real(folder, path, flags, mode); \
    }
OPEN_AT(openat)
OPEN_AT(openat64)

int clock_gettime(clockid_t clock, struct timespec *now) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int found = real(clock, now);
    if (state && clock == CLOCK_REALTIME) now->tv_sec += atomic_load(&state->shift);
    return found;
}
