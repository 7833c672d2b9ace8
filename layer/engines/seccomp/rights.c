/* Whose rights a path of this machine is opened with: the caller's, never ours. Rules: they are read while
   the caller waits, so they cannot change, and its id is checked afterwards; a thread takes them on for the
   one system call that needs them, and no other thread notices, because every call here is made raw. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "parts.h"

#define STATUS 16384 /* of /proc/PID/status; its list of groups is what may make it long */

static const char *field(const char *status, const char *name)
{
    const char *at = strstr(status, name);

    return at ? at + strlen(name) : "";
}

static int read_ids(const char *text, unsigned int *real, unsigned int *of_files)
{
    return sscanf(text, "%u %*u %*u %u", real, of_files) == 2;
}

/* -1: more than we can keep, or the list is cut off. */
static int read_groups(const char *text, gid_t *groups)
{
    int count = 0;

    for (;;) {
        char *end;
        unsigned long group = strtoul(text, &end, 10);

        text += strspn(text, " \t");
        if (*text == '\n')
            return count;
        if (end == text || !*end || count == PM_GROUPS)
            return -1;
        groups[count++] = (gid_t)group;
        text = end;
    }
}

static int parse(const char *status, struct pm_rights *rights)
{
    rights->count = read_groups(field(status, "\nGroups:"), rights->groups);
    return rights->count >= 0 && read_ids(field(status, "\nUid:"), &rights->real_user, &rights->user) &&
           read_ids(field(status, "\nGid:"), &rights->real_group, &rights->group) &&
           sscanf(field(status, "\nUmask:"), "%o", &rights->mask) == 1 &&
           sscanf(field(status, "\nCapPrm:"), "%llx", &rights->permitted) == 1 &&
           sscanf(field(status, "\nCapEff:"), "%llx", &rights->effective) == 1;
}

static int read_status(const char *process, struct pm_rights *rights)
{
    char text[STATUS];
    ssize_t size;
    int fd;

    snprintf(text, sizeof text, "%s/status", process);
    fd = open(text, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    size = read(fd, text, sizeof text - 1);
    close(fd);
    text[size < 0 ? 0 : size] = 0;
    return parse(text, rights);
}

static int read_place(const char *process, const char *name, struct pm_place *place)
{
    char link[64];
    struct statx got;

    snprintf(link, sizeof link, "%s/%s", process, name);
    if (statx(AT_FDCWD, link, AT_STATX_DONT_SYNC, STATX_INO | STATX_MNT_ID, &got) < 0)
        return 0;
    *place = (struct pm_place){makedev(got.stx_dev_major, got.stx_dev_minor), got.stx_ino, got.stx_mnt_id};
    return 1;
}

/* process: such as /proc/7. Whether all of it could be read. */
int pm_rights_read(const char *process, struct pm_rights *rights)
{
    return read_place(process, "root", &rights->root) && read_place(process, "ns/user", &rights->users) &&
           read_status(process, rights);
}

static int same_place(const struct pm_place *one, const struct pm_place *other)
{
    return one->device == other->device && one->inode == other->inode && one->mount == other->mount;
}

/* Is it one of the effective capabilities of rights, where it counts: in our own user namespace? */
int pm_rights_include(const struct pm_rights *own, const struct pm_rights *rights, int capability)
{
    return same_place(&own->users, &rights->users) && rights->effective >> capability & 1;
}

static int same_groups(const struct pm_rights *one, const struct pm_rights *other)
{
    return one->count == other->count &&
           memcmp(one->groups, other->groups, (size_t)one->count * sizeof *one->groups) == 0;
}

static int same(const struct pm_rights *one, const struct pm_rights *other)
{
    return one->user == other->user && one->group == other->group && one->effective == other->effective &&
           same_groups(one, other);
}

/* access() goes by the real ids, and with the capabilities these would have. */
static void take_real_ids(const struct pm_job *job, struct pm_rights *rights)
{
    if (job->kind != PM_ACCESS_READ && job->kind != PM_ACCESS_WRITE)
        return;
    if (job->caught->op == OP_FACCESSAT2 && job->request->data.args[3] & AT_EACCESS)
        return;
    rights->user = rights->real_user;
    rights->group = rights->real_group;
    rights->effective = rights->user == 0 ? rights->permitted : 0;
}

/* Before what is carried out on this machine. 0: there is nothing left to do. A caller with a root or a
   mount namespace of its own means another file by the path, so the kernel looks for it; in a user
   namespace of its own its capabilities are not what they are called. */
int pm_job_borrow(struct pm_job *job)
{
    struct pm_rights *caller = &job->caller;
    char process[32];
    int known;

    snprintf(process, sizeof process, "/proc/%u", job->request->pid);
    known = pm_rights_read(process, caller);
    if (!pm_job_valid(job)) /* what was read may be another's */
        return 0;
    if (known && !same_place(&job->own->root, &caller->root)) {
        pm_job_continue(job);
        return 0;
    }
    if (!known || !same_place(&job->own->users, &caller->users)) {
        pm_job_return(job, -EACCES);
        return 0;
    }
    take_real_ids(job, caller);
    job->borrowed = !same(job->own, caller);
    return 1;
}

static int set_effective(uint64_t effective)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];

    if (syscall(SYS_capget, &header, sets) < 0)
        return 0;
    sets[0].effective = (uint32_t)effective & sets[0].permitted;
    sets[1].effective = (uint32_t)(effective >> 32) & sets[1].permitted;
    return syscall(SYS_capset, &header, sets) == 0;
}

static int set_ids(const struct pm_rights *from, const struct pm_rights *to)
{
    if (!same_groups(from, to) && syscall(SYS_setgroups, to->count, to->groups) < 0)
        return 0;
    setfsgid(to->group);
    setfsuid(to->user);
    return (gid_t)setfsgid((gid_t)-1) == to->group && (uid_t)setfsuid((uid_t)-1) == to->user;
}

/* From here to take_off this thread has the caller's rights. It must not answer then, nor touch the
   program's memory: that takes our own. 0, or -EACCES: they are not ours to take. */
int pm_job_put_on(const struct pm_job *job)
{
    if (!job->borrowed || (set_ids(job->own, &job->caller) && set_effective(job->caller.effective)))
        return 0;
    pm_job_take_off(job);
    return -EACCES;
}

void pm_job_take_off(const struct pm_job *job)
{
    if (!job->borrowed)
        return;
    set_effective(job->own->effective); /* or the groups could not be set */
    set_ids(&job->caller, job->own);
    set_effective(job->own->effective); /* becoming user 0 raises some by itself */
}

/* The umask, before what creates. It belongs to the process until a thread has parted with it, which a
   container's profile may forbid. 0 or -EACCES. */
int pm_job_put_on_mask(const struct pm_job *job)
{
    static _Thread_local int apart;

    if (!apart)
        apart = unshare(CLONE_FS) == 0;
    if (apart)
        umask(job->caller.mask);
    return apart || job->own->mask == job->caller.mask ? 0 : -EACCES;
}
