/* Preloaded into a server: writes a journal of what reaches one file, and of what is known to be on the disk.
 * The file itself is written as always, so that the server notices nothing. powercut.py reads the journal.
 *
 * Records: 'W' offset length data, before a write; 'D', after a write on a descriptor opened with O_DSYNC;
 * 'S', after an fdatasync or fsync; 'F', after one that was made to fail. One thread writes at a time, as LMDB does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static int journal = -1;

static int is_ours(int fd) {
    char link[64], target[4096];
    const char *path = getenv("POWERCUT_FILE");
    if (!path) return 0;
    char *digit = link + sizeof link;
    *--digit = 0;
    do *--digit = '0' + fd % 10; while (fd /= 10);
    char name[96] = "/proc/self/fd/";
    strcat(name, digit);
    ssize_t length = readlink(name, target, sizeof target - 1);
    if (length < 0) return 0;
    target[length] = 0;
    if (strcmp(target, path)) return 0;
    if (journal < 0) journal = open(getenv("POWERCUT_JOURNAL"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    return 1;
}

static void record(char kind, int64_t offset, const struct iovec *parts, int count) {
    struct iovec all[1027];
    struct __attribute__((packed)) { char kind; int64_t offset; int64_t length; } head = {kind, offset, 0};
    for (int i = 0; i < count; i++) {
        all[i + 1] = parts[i];
        head.length += (int64_t)parts[i].iov_len;
    }
    all[0].iov_base = &head;
    all[0].iov_len = sizeof head;
    if (count > 1024 || syscall(SYS_writev, journal, all, count + 1) != (long)sizeof head + head.length) abort();
}

static void durable_at_once(int fd) {
    if (fcntl(fd, F_GETFL) & O_DSYNC) record('D', 0, NULL, 0);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset) {
    int ours = is_ours(fd);
    struct iovec part = {(void *)data, length};
    if (ours) record('W', offset, &part, 1);
    ssize_t done = syscall(SYS_pwrite64, fd, data, length, offset);
    if (ours && done == (ssize_t)length) durable_at_once(fd);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    static ssize_t (*next)(int, const struct iovec *, int, off64_t);
    if (!next) next = (ssize_t(*)(int, const struct iovec *, int, off64_t))dlsym(RTLD_NEXT, "pwritev64");
    int ours = is_ours(fd);
    if (ours) record('W', offset, parts, count);
    ssize_t done = next(fd, parts, count, offset);
    if (ours && done > 0) durable_at_once(fd);
    return done;
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev64(fd, parts, count, offset); }

/* LMDB seeks and uses write or writev where it has no pwritev. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
    int ours = is_ours(fd);
    if (ours) record('W', lseek(fd, 0, SEEK_CUR), parts, count);
    ssize_t done = syscall(SYS_writev, fd, parts, count);
    if (ours && done > 0) durable_at_once(fd);
    return done;
}

/* While the file POWERCUT_HANG is there a sync waits. Where POWERCUT_FAIL is there the next one fails, once, and
 * what was to be synced is dropped, as Linux does: the page cache then holds it as clean. */
static int synced(int fd, long call) {
    const char *hang = getenv("POWERCUT_HANG"), *fail = getenv("POWERCUT_FAIL");
    if (!is_ours(fd)) return (int)syscall(call, fd);
    while (hang && !access(hang, F_OK)) usleep(5000);
    if (fail && !unlink(fail)) {
        record('F', 0, NULL, 0);
        errno = EIO;
        return -1;
    }
    int failed = (int)syscall(call, fd);
    if (!failed) record('S', 0, NULL, 0);
    return failed;
}
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }
int fsync(int fd) { return synced(fd, SYS_fsync); }
