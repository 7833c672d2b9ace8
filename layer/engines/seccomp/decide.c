/* From a notification to its verdict. Rules: what the kernel can do alone goes on untouched, a relative
   path above all; the program's path is read once; what a tree holds is shown under the target's names,
   never under the place where our mount is. */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>

#include "pump.h"

void pm_leave_alone(struct worker *worker)
{
    worker->pump->counters[PM_ANSWERED_LOCAL]++;
    pm_job_continue(&worker->job);
}

/* job.found for kind, follow and path. 0: nobody waits for it any more, or the process is left alone. */
static int find(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct pm_job *job = &worker->job;

    pm_table_find(pump->table, job->kind, job->follow, job->path, &job->found);
    if (job->found.verdict == PM_CONTINUE)
        return 1;
    if (pm_skipped((pid_t)job->request->pid, pump->skip, pump->skips)) {
        job->found.verdict = PM_CONTINUE;
        return 1;
    }
    if (!pm_job_valid(job)) /* what was read may have been another's */
        return 0;
    if (job->found.verdict == PM_ASK)
        pm_ask(worker);
    else
        pm_leave_door(worker);
    return 1;
}

/* "/data/.." with /data in a tree and / untouched: the kernel would look for a /data of ours, so the
   path without its dots is taken below our own root instead. */
static int climbs_out_of_a_tree(struct worker *worker)
{
    struct pm_job *job = &worker->job;
    const char *dots = strstr(job->raw, "/..");
    int kind = job->kind, follow = job->follow, slash = job->slash, ignored, found;
    char path[PM_PATH];

    while (dots && dots[3] && dots[3] != '/')
        dots = strstr(dots + 1, "/..");
    if (!dots || dots == job->raw)
        return 0;
    memcpy(path, job->path, sizeof path);
    job->raw[dots - job->raw] = 0;
    pm_normalise(job->raw, job->path, &ignored);
    job->kind = PM_STAT;
    job->follow = 1;
    found = find(worker) && job->found.verdict == PM_TREE_PATH;
    job->kind = kind;
    job->follow = follow;
    job->slash = slash;
    if (found) {
        job->found.root = worker->pump->root;
        snprintf(job->found.value, sizeof job->found.value, "%s", path[1] ? path + 1 : ".");
    }
    return found;
}

/* kind, follow and path are known: find the verdict and carry it out. */
static void decide(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct pm_job *job = &worker->job;

    if (!find(worker))
        return;
    if (job->found.verdict == PM_CONTINUE && job->path[0] && !climbs_out_of_a_tree(worker)) {
        pm_leave_alone(worker);
        return;
    }
    pump->counters[PM_CARRIED] += job->found.verdict != PM_CONTINUE;
    job->here = job->found.verdict == PM_TREE_PATH && !pm_trees_known(pump->trees, job->found.root);
    pm_job_carry_out(job);
}

/* The relative path in raw, made absolute in the target's words; 0: its directory is not inside a tree. */
static int join_inside(struct worker *worker, int directory)
{
    struct pm_job *job = &worker->job;
    char link[48], place[PM_PATH], joined[2 * PM_PATH];

    if (!pm_trees_any(worker->pump->trees, 0))
        return 0;
    if (directory == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/%u/cwd", job->request->pid);
    else
        snprintf(link, sizeof link, "/proc/%u/fd/%d", job->request->pid, directory);
    if (!pm_trees_inside(worker->pump->trees, link, place))
        return 0;
    if (snprintf(joined, sizeof joined, "%s%s%s", place, *job->raw ? "/" : "", job->raw) >= PATH_MAX)
        return 0;
    memcpy(job->raw, joined, strlen(joined) + 1);
    return 1;
}

static int look_at(struct worker *worker, int follow, int *slash, int *alone)
{
    struct pm_job *job = &worker->job;

    job->follow = follow;
    *alone = job->raw[0] != '/';
    if (!*alone) {
        pm_normalise(job->raw, job->path, slash);
        *alone = pm_is_own_proc(job->path);
    }
    job->found.verdict = PM_CONTINUE;
    if (*alone)
        return 1;
    if (!find(worker))
        return 0;
    if (job->found.verdict == PM_CONTINUE && !climbs_out_of_a_tree(worker)) {
        job->found.root = worker->pump->root;
        snprintf(job->found.value, sizeof job->found.value, "%s", job->path[1] ? job->path + 1 : ".");
    } else if (job->found.verdict == PM_CONTINUE) {
        job->found.verdict = PM_TREE_PATH;
    }
    return 1;
}

/* What the path in that argument leads to, in job.found; where the kernel finds it by itself, *alone is set. 0: nobody
   waits for it any more; or -errno: it cannot be read. */
int pm_look(struct worker *worker, int argument, int follow, int *slash, int *alone)
{
    struct pm_job *job = &worker->job;
    int size = pm_read_string((pid_t)job->request->pid, job->request->data.args[argument], job->raw, PATH_MAX);

    return size < 0 ? size : look_at(worker, follow, slash, alone);
}

/* Of a call of two names; where the second leads is in job.found. alone: the kernel finds it by itself. */
struct two {
    struct pm_found first;
    int follow; /* the first, if it is a link */
    int alone, other_alone;
};

/* job.path, which is below /proc, as it is called from here. */
static void callers_proc(const struct pm_job *job, char *link, size_t size)
{
    const char *self = pm_below(job->path, "/proc/self") ? "/proc/self" : "/proc/thread-self";

    if (pm_is_own_proc(job->path))
        snprintf(link, size, "/proc/%u%s", job->request->pid, job->path + strlen(self));
    else
        snprintf(link, size, "%s", job->path);
}

/* linkat of /proc/self/fd/N, which is how a file without a name gets one: a name in a tree is made there, and
   that it is one file system is the kernel's to say. */
static int look_through_proc(struct worker *worker, struct two *two)
{
    struct pm_job *job = &worker->job;
    char link[PM_PATH + 32];

    if (!two->alone || two->other_alone || !two->follow || job->caught->op != OP_LINKAT ||
        !pm_trees_known(worker->pump->trees, job->found.root) ||
        pm_read_string((pid_t)job->request->pid, job->request->data.args[1], job->raw, PATH_MAX) < 0 ||
        job->raw[0] != '/')
        return 0;
    pm_normalise(job->raw, job->path, &job->slash);
    callers_proc(job, link, sizeof link);
    if (!pm_is_own_proc(job->path) || strlen(link) >= PATH_MAX)
        return 0;
    memcpy(job->path, link, strlen(link) + 1);
    job->slash = PM_END_NAME;
    job->magic = 1;
    two->first = job->found;
    two->alone = 0;
    return 1;
}

/* Where one is relative to a folder in a tree and the other is not: that one's place, too. */
static void look_inside(struct worker *worker, struct two *two)
{
    struct pm_job *job = &worker->job;
    const struct pm_found found = job->found;
    int argument = two->alone ? job->caught->path : job->caught->other;
    int plain = job->caught->op == OP_RENAME || job->caught->op == OP_LINK;

    if (two->alone == two->other_alone ||
        pm_read_string((pid_t)job->request->pid, job->request->data.args[argument], job->raw, PATH_MAX) < 0 ||
        job->raw[0] == '/' || !join_inside(worker, plain ? AT_FDCWD : (int)job->request->data.args[argument - 1]))
        return;
    if (!two->alone) {
        look_at(worker, 0, &job->slash_other, &two->other_alone);
        return;
    }
    look_at(worker, two->follow, &job->slash, &two->alone);
    two->first = job->found;
    job->found = found;
}

/* Where both lead. 0: there is an answer already. */
static int look_at_both(struct worker *worker, struct two *two)
{
    struct pm_job *job = &worker->job;
    int looked = pm_look(worker, job->caught->path, two->follow, &job->slash, &two->alone);

    two->first = job->found;
    if (looked > 0 && two->first.verdict == PM_ERRNO) {
        pm_job_carry_out(job);
        return 0;
    }
    if (looked > 0) {
        looked = pm_look(worker, job->caught->other, 0, &job->slash_other, &two->other_alone);
        if (looked < 0 && two->first.verdict != PM_CONTINUE) {
            pm_job_return(job, looked);
            return 0;
        }
        if (looked > 0 && !look_through_proc(worker, two))
            look_inside(worker, two);
    }
    if (looked <= 0 || (job->found.verdict == PM_CONTINUE && two->first.verdict == PM_CONTINUE)) {
        pm_leave_alone(worker);
        return 0;
    }
    return 1;
}

/* Whether both are of one tree, or both of this machine: then *here. */
static int in_one_place(struct worker *worker, const struct two *two, int *here)
{
    struct pm_trees *trees = worker->pump->trees;
    int root = two->first.root, other = worker->job.found.root;

    if (two->alone || two->other_alone)
        return 0;
    *here = !pm_trees_known(trees, root);
    return *here == !pm_trees_known(trees, other) && (*here || root == other);
}

/* A name becomes another one, or gets one more: both are of one place, else it is as between two file systems. */
static void decide_two(struct worker *worker)
{
    struct pm_job *job = &worker->job;
    struct two two;

    pm_job_classify(job);
    two.follow = job->follow;
    job->magic = 0;
    if (!look_at_both(worker, &two))
        return;
    worker->pump->counters[PM_CARRIED]++;
    if (job->found.verdict == PM_ERRNO) {
        pm_job_carry_out(job);
    } else if (!in_one_place(worker, &two, &job->here)) {
        pm_job_return(job, -EXDEV);
    } else {
        job->found_other = job->found;
        job->found = two.first;
        job->found.verdict = PM_TREE_PATH;
        job->follow = two.follow;
        pm_job_carry_out(job);
    }
}

/* The working directory is inside a tree: say where in the target's words. */
static void answer_getcwd(struct worker *worker)
{
    struct pm_job *job = &worker->job;
    char link[32];

    snprintf(link, sizeof link, "/proc/%u/cwd", job->request->pid);
    if (pm_trees_any(worker->pump->trees, 0) && pm_trees_inside(worker->pump->trees, link, job->path) &&
        !strstr(job->path, " (deleted)"))
        pm_job_text(job, job->path, (int)strlen(job->path));
    else
        pm_leave_alone(worker);
}

/* A relative readlink: the tree holds absolute targets as relative ones, so inside a tree the true
   target must be asked for. A relative watch: the kernel would tell of this machine's doings in the tree alone.
   Leaves raw absolute; 0: not inside a tree. */
static int make_absolute(struct worker *worker)
{
    const struct pm_job *job = &worker->job;

    if (job->kind != PM_READLINK && job->kind != PM_WATCH)
        return 0;
    return join_inside(worker, job->caught->op == OP_READLINKAT ? (int)job->request->data.args[0] : AT_FDCWD);
}

/* /proc/…/fd/N, cwd, exe that leads into a tree: where to, in the target's words. */
static int proc_link(struct worker *worker, int visible, char *inside)
{
    struct pm_job *job = &worker->job;
    char link[PM_PATH + 32];

    if (!pm_below(job->path, "/proc") || !pm_trees_any(worker->pump->trees, visible))
        return 0;
    callers_proc(job, link, sizeof link);
    return pm_trees_inside(worker->pump->trees, link, inside);
}

/* readlink of such a link where the tree's place can be seen: 1, it is answered. A watch of one is of where it leads. */
static int answer_proc_link(struct worker *worker)
{
    struct pm_job *job = &worker->job;
    char inside[PM_PATH];

    if (job->kind == PM_READLINK && proc_link(worker, 1, inside)) {
        pm_job_text(job, inside, (int)strlen(inside));
        return 1;
    }
    if (job->kind == PM_WATCH && job->follow && proc_link(worker, 0, inside))
        memcpy(job->path, inside, strlen(inside) + 1);
    return 0;
}

/* Whether job.path names something to decide on; 0: the kernel does this one alone. */
static int read_path(struct worker *worker)
{
    struct pm_job *job = &worker->job;
    int opens = job->caught->calls & PM_CALL_OPEN;
    int size = pm_read_string((pid_t)job->request->pid, job->request->data.args[job->caught->path], job->raw, PATH_MAX);

    if (size < 0 || (opens && pm_job_read_open(job)))
        return 0;
    if (opens && job->resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH)) /* relative whatever it looks like */
        return 0;
    pm_job_classify(job);
    if (job->raw[0] != '/' && !make_absolute(worker))
        return 0;
    pm_normalise(job->raw, job->path, &job->slash);
    return 1;
}

void pm_serve(struct worker *worker)
{
    struct pm_job *job = &worker->job;

    job->caught = pm_caught(job->request->data.nr);
    job->slash = 0;
    job->here = 0;
    job->resolve = 0;
    if (!job->caught) {
        pm_leave_alone(worker);
    } else if (job->caught->calls & (PM_CALL_CONNECT | PM_CALL_SENDTO | PM_CALL_BIND | PM_CALL_LISTEN)) {
        pm_serve_socket(worker);
    } else if (job->caught->op == OP_GETCWD) {
        answer_getcwd(worker);
    } else if (job->caught->op == OP_UNAME) {
        pm_job_classify(job);
        job->path[0] = 0;
        decide(worker);
    } else if (job->caught->op == OP_OTHER) {
        pm_serve_other(worker);
    } else if (job->caught->other) {
        decide_two(worker);
    } else if (!read_path(worker)) {
        pm_leave_alone(worker);
    } else if (!answer_proc_link(worker)) {
        if (pm_is_own_proc(job->path))
            pm_leave_alone(worker);
        else
            decide(worker);
    }
}
