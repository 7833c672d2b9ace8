/* What kind of question a call is, and whether it follows a final link: by its number and arguments alone. */
#include <fcntl.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "parts.h"

static uint64_t arg(const struct pm_job *job, int index)
{
    return job->request->data.args[index];
}

static int opens_to_write(uint64_t flags)
{
    if (flags & O_PATH)
        return 0;
    return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
}

static int access_kind(const struct pm_job *job)
{
    return arg(job, job->caught->path + 1) & W_OK ? PM_ACCESS_WRITE : PM_ACCESS_READ;
}

static int kind_of(const struct pm_job *job)
{
    switch (job->caught->op) {
    case OP_OPEN: case OP_CREAT: case OP_OPENAT: case OP_OPENAT2:
        return opens_to_write(job->open_flags) ? PM_OPEN_WRITE : PM_OPEN_READ;
    case OP_ACCESS: case OP_FACCESSAT: case OP_FACCESSAT2:
        return access_kind(job);
    case OP_READLINK: case OP_READLINKAT:
        return PM_READLINK;
    case OP_STATFS:
        return PM_STATFS;
    case OP_UNAME:
        return PM_HOSTNAME;
    case OP_OTHER:
        return PM_OTHER;
    case OP_WATCH:
        return PM_WATCH;
    default:
        return job->caught->calls & PM_CALL_CHANGE ? PM_CHANGE : PM_STAT;
    }
}

static int follows(const struct pm_job *job)
{
    switch (job->caught->op) {
    case OP_OPEN: case OP_CREAT: case OP_OPENAT: case OP_OPENAT2:
        return !(job->open_flags & O_NOFOLLOW || (job->open_flags & O_CREAT && job->open_flags & O_EXCL));
    case OP_READLINK: case OP_READLINKAT: case OP_LSTAT: case OP_LGETXATTR: case OP_LLISTXATTR:
    case OP_MKDIR: case OP_MKDIRAT: case OP_MKNOD: case OP_MKNODAT: case OP_UNLINK: case OP_UNLINKAT: case OP_RMDIR:
    case OP_RENAME: case OP_RENAMEAT: case OP_RENAMEAT2: case OP_LINK: case OP_SYMLINK: case OP_SYMLINKAT:
    case OP_LCHOWN: case OP_LSETXATTR: case OP_LREMOVEXATTR:
        return 0;
    case OP_LINKAT:
        return (arg(job, 4) & AT_SYMLINK_FOLLOW) != 0;
    case OP_UTIMENSAT:
        return !(arg(job, 3) & AT_SYMLINK_NOFOLLOW);
    case OP_WATCH:
        return !(arg(job, 2) & IN_DONT_FOLLOW);
    default:
        return job->caught->flags < 0 || !(arg(job, job->caught->flags) & AT_SYMLINK_NOFOLLOW);
    }
}

/* Fills kind and follow from the arguments (of the open family: after pm_job_read_open). */
void pm_job_classify(struct pm_job *job)
{
    job->kind = kind_of(job);
    job->follow = follows(job);
}
