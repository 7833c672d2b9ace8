/* Changes of names and attributes, carried out below a tree's root, or refused. Rules: what the program's memory holds
   is copied, and known to be this program's, before its rights are taken on; a name is changed in its folder, which
   is resolved below the root; what a call follows is opened first and changed through its descriptor, so that no
   link leads out of the tree. */
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "parts.h"

#define MOST_VALUE 65536 /* of an extended attribute, the kernel's own limit */
#define LINK 64          /* room for /proc/self/fd/N/ */

/* What a change needs beside its paths. now: no times are given. */
struct details {
    char text[PM_PATH]; /* a link's target, an attribute's name */
    struct timespec times[2];
    int now;
    void *value;
    size_t size;
};

static uint64_t arg(const struct pm_job *job, int index)
{
    return job->request->data.args[index];
}

static int read_times(const struct pm_job *job, struct details *details)
{
    uint64_t at = arg(job, job->caught->path + 1);
    struct timeval micro[2];
    struct utimbuf seconds;
    pid_t pid = (pid_t)job->request->pid;
    int failed;

    details->now = !at;
    if (!at)
        return 0;
    if (job->caught->op == OP_UTIMENSAT)
        return pm_read(pid, at, details->times, sizeof details->times);
    if (job->caught->op == OP_UTIME) {
        failed = pm_read(pid, at, &seconds, sizeof seconds);
        details->times[0] = (struct timespec){seconds.actime, 0};
        details->times[1] = (struct timespec){seconds.modtime, 0};
        return failed;
    }
    failed = pm_read(pid, at, micro, sizeof micro);
    for (int i = 0; i < 2 && !failed; i++) {
        if (micro[i].tv_usec < 0 || micro[i].tv_usec >= 1000000)
            return -EINVAL;
        details->times[i] = (struct timespec){micro[i].tv_sec, micro[i].tv_usec * 1000};
    }
    return failed;
}

static int read_value(const struct pm_job *job, struct details *details)
{
    details->size = (size_t)arg(job, 3);
    if (details->size > MOST_VALUE)
        return -E2BIG;
    details->value = malloc(details->size + 1);
    if (!details->value)
        return -ENOMEM;
    return details->size ? pm_read((pid_t)job->request->pid, arg(job, 2), details->value, details->size) : 0;
}

/* 0 or -errno. */
static int read_details(const struct pm_job *job, struct details *details)
{
    pid_t pid = (pid_t)job->request->pid;
    int size = 0;

    switch (job->caught->op) {
    case OP_SYMLINK: case OP_SYMLINKAT:
        size = pm_read_string(pid, arg(job, 0), details->text, PATH_MAX);
        return size < 0 ? size : size ? 0 : -ENOENT;
    case OP_UTIME: case OP_UTIMES: case OP_FUTIMESAT: case OP_UTIMENSAT:
        return read_times(job, details);
    case OP_SETXATTR: case OP_LSETXATTR: case OP_REMOVEXATTR: case OP_LREMOVEXATTR:
        size = pm_read_string(pid, arg(job, 1), details->text, XATTR_NAME_MAX + 1);
        if (size < 0)
            return size == -ENAMETOOLONG ? -ERANGE : size;
        return job->caught->op == OP_SETXATTR || job->caught->op == OP_LSETXATTR ? read_value(job, details) : 0;
    default:
        return 0;
    }
}

/* The folder that holds what is named, or -errno; its last part is in name, with a slash where the path had one. Dots
   stay what they are: they name a directory of which no call here makes, removes or renames anything. */
static int folder_of(const struct pm_job *job, const struct pm_found *found, int slash, char *name)
{
    const char *last = strrchr(found->value, '/'), *part = last ? last + 1 : found->value;
    size_t size = strlen(part);
    char folder[PM_PATH];

    if (slash >= PM_END_DOT) {
        strcpy(name, slash == PM_END_DOT ? "." : "..");
        return pm_job_open_below(job, found->root, found->value, O_PATH | O_DIRECTORY);
    }
    if (size > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, part, size);
    memcpy(name + size, slash ? "/" : "", slash ? 2 : 1);
    snprintf(folder, sizeof folder, "%.*s", last ? (int)(last - found->value) : 0, found->value);
    return pm_job_open_below(job, found->root, *folder ? folder : ".", O_PATH | O_DIRECTORY);
}

static long at_folder(const struct pm_job *job, const struct details *details, int folder, const char *name)
{
    switch (job->caught->op) {
    case OP_MKDIR: return mkdirat(folder, name, (mode_t)arg(job, 1));
    case OP_MKDIRAT: return mkdirat(folder, name, (mode_t)arg(job, 2));
    case OP_MKNOD: return mknodat(folder, name, (mode_t)arg(job, 1), (dev_t)(unsigned)arg(job, 2));
    case OP_MKNODAT: return mknodat(folder, name, (mode_t)arg(job, 2), (dev_t)(unsigned)arg(job, 3));
    case OP_UNLINK: return unlinkat(folder, name, 0);
    case OP_RMDIR: return unlinkat(folder, name, AT_REMOVEDIR);
    case OP_UNLINKAT: return unlinkat(folder, name, (int)arg(job, 2));
    default: return symlinkat(details->text, folder, name); /* OP_SYMLINK, OP_SYMLINKAT */
    }
}

/* A further name for what a link leads to. */
static long link_followed(const struct pm_job *job, int other, const char *other_name)
{
    int fd = job->magic ? open(job->path, O_PATH | O_CLOEXEC)
                        : pm_job_open_below(job, job->found.root, job->found.value, O_PATH);
    char place[LINK];
    long done;

    if (fd < 0)
        return job->magic ? -errno : fd;
    snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    done = linkat(AT_FDCWD, place, other, other_name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
    close(fd);
    return done;
}

static long between(const struct pm_job *job, int folder, const char *name, int other, const char *other_name)
{
    unsigned flags = job->caught->op == OP_RENAMEAT2 ? (unsigned)arg(job, 4) : 0;
    long done;

    if (job->caught->op == OP_LINK || job->caught->op == OP_LINKAT) {
        if (job->follow)
            return link_followed(job, other, other_name);
        done = linkat(folder, name, other, other_name, 0);
    } else {
        done = syscall(SYS_renameat2, folder, name, other, other_name, flags);
    }
    return done < 0 ? -errno : 0;
}

/* place: names the file itself. */
static long at_file(const struct pm_job *job, const struct details *details, const char *place)
{
    int path = job->caught->path, stays = job->follow ? 0 : AT_SYMLINK_NOFOLLOW;
    const struct timespec *times = details->now ? NULL : details->times;

    switch (job->caught->op) {
    case OP_CHMOD: case OP_FCHMODAT: case OP_FCHMODAT2:
        return stays ? syscall(PM_SYS_fchmodat2, AT_FDCWD, place, (mode_t)arg(job, path + 1), stays)
                     : chmod(place, (mode_t)arg(job, path + 1));
    case OP_CHOWN: case OP_LCHOWN: case OP_FCHOWNAT:
        return fchownat(AT_FDCWD, place, (uid_t)arg(job, path + 1), (gid_t)arg(job, path + 2), stays);
    case OP_SETXATTR: return setxattr(place, details->text, details->value, details->size, (int)arg(job, 4));
    case OP_LSETXATTR: return lsetxattr(place, details->text, details->value, details->size, (int)arg(job, 4));
    case OP_REMOVEXATTR: return removexattr(place, details->text);
    case OP_LREMOVEXATTR: return lremovexattr(place, details->text);
    default: return utimensat(AT_FDCWD, place, times, stays);
    }
}

static long truncated(const struct pm_job *job)
{
    int flags = O_WRONLY | O_NONBLOCK | (job->slash ? O_DIRECTORY : 0);
    int fd = pm_job_open_below(job, job->found.root, job->found.value, flags);
    long done;

    if (fd < 0)
        return fd;
    done = ftruncate(fd, (off_t)arg(job, 1)) < 0 ? -errno : 0;
    close(fd);
    return done;
}

/* A change of attributes: through the folder where a final link stays, else through the file that it leads to. */
static long attributes(const struct pm_job *job, const struct details *details)
{
    char name[NAME_MAX + 2], place[LINK + NAME_MAX];
    int flags = O_PATH | (job->slash ? O_DIRECTORY : 0);
    int fd = job->follow ? pm_job_open_below(job, job->found.root, job->found.value, flags)
                         : folder_of(job, &job->found, 0, name);
    long done;

    if (fd < 0)
        return fd;
    if (job->follow)
        snprintf(place, sizeof place, "/proc/self/fd/%d", fd);
    else
        snprintf(place, sizeof place, "/proc/self/fd/%d/%s", fd, name);
    done = at_file(job, details, place) < 0 ? -errno : 0;
    close(fd);
    return done;
}

/* A change of one name, or of two. */
static long names(const struct pm_job *job, const struct details *details)
{
    char name[NAME_MAX + 2], other_name[NAME_MAX + 2];
    int folder = folder_of(job, &job->found, job->slash, name), other;
    long done;

    if (folder < 0)
        return folder;
    if (!job->caught->other) {
        done = at_folder(job, details, folder, name) < 0 ? -errno : 0;
        close(folder);
        return done;
    }
    other = folder_of(job, &job->found_other, job->slash_other, other_name);
    if (other < 0) {
        close(folder);
        return other;
    }
    done = between(job, folder, name, other, other_name);
    close(folder);
    close(other);
    return done;
}

static int of_names(enum op op)
{
    switch (op) {
    case OP_MKDIR: case OP_MKDIRAT: case OP_MKNOD: case OP_MKNODAT: case OP_UNLINK: case OP_UNLINKAT: case OP_RMDIR:
    case OP_SYMLINK: case OP_SYMLINKAT: case OP_RENAME: case OP_RENAMEAT: case OP_RENAMEAT2: case OP_LINK: case OP_LINKAT:
        return 1;
    default:
        return 0;
    }
}

static long carried_out(const struct pm_job *job, const struct details *details)
{
    if (job->caught->op == OP_TRUNCATE)
        return truncated(job);
    return of_names(job->caught->op) ? names(job, details) : attributes(job, details);
}

static int makes(enum op op)
{
    return op == OP_MKDIR || op == OP_MKDIRAT || op == OP_MKNOD || op == OP_MKNODAT;
}

/* The mask is the program's in a tree, too: the kernel takes it off before the tree is asked. */
int pm_job_take_mask(struct pm_job *job)
{
    char process[32];

    snprintf(process, sizeof process, "/proc/%u", job->request->pid);
    if (!job->here && (!pm_rights_read(process, &job->caller) || !pm_job_valid(job)))
        return -ESRCH;
    return pm_job_put_on_mask(job);
}

void pm_job_carry_change(struct pm_job *job)
{
    struct details details = {.value = NULL};
    long done = read_details(job, &details);

    if (job->slash && !of_names(job->caught->op))
        job->follow = 1; /* `link/` is what the link leads to */

    if (!done && !pm_job_valid(job)) /* what was read may have been another's */
        done = -ESRCH;
    if (!done && makes(job->caught->op))
        done = pm_job_take_mask(job);
    if (!done)
        done = pm_job_put_on(job);
    if (!done) {
        done = carried_out(job, &details);
        pm_job_take_off(job);
    }
    free(details.value);
    pm_job_return(job, done);
}
