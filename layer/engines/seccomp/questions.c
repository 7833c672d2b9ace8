/* Questions to Python and their answers. Rules: what the table does not know goes into a queue, an event descriptor
   says so, and the worker waits for the reply; a reply that comes too late goes nowhere. */
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pump.h"

#define LOOK 30000000 /* ns between two looks at a caller that waits for Python */

static void tell(struct pm_pump *pump)
{
    uint64_t one = 1;
    ssize_t done = write(pump->event, &one, sizeof one);

    (void)done; /* EAGAIN: the counter is full, so it is readable already */
}

void pm_ask(struct worker *worker)
{
    const struct pm_job *job = &worker->job;
    pm_question question = {.kind = job->kind, .follow = job->follow, .path = job->path,
                            .size = (int)strlen(job->path)};

    pm_put(worker, &question);
}

/* Under lock. The errno to give up with, when there is no reply: look() says so, or the pump stops. */
static int await_reply(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct timespec until;
    int code = 0;

    while (worker->open && !pump->stopping && !code) {
        if (!worker->look) {
            pthread_cond_wait(&worker->replied, &pump->lock);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += LOOK;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&worker->replied, &pump->lock, &until) == 0)
            continue;
        pthread_mutex_unlock(&pump->lock);
        code = worker->look(worker);
        pthread_mutex_lock(&pump->lock);
    }
    return code ? code : EIO;
}

/* Under lock: nobody waits for the reply any more, and Python need not see the question if it has not. */
static void withdraw(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct worker *before = NULL;

    worker->open = 0;
    for (struct worker *each = pump->first; each; before = each, each = each->next) {
        if (each != worker)
            continue;
        if (before)
            before->next = worker->next;
        else
            pump->first = worker->next;
        if (pump->last == worker)
            pump->last = before;
        return;
    }
}

/* The worker's question to the end of the queue; under lock. */
static void queue_question(struct worker *worker, const pm_question *question)
{
    struct pm_pump *pump = worker->pump;
    unsigned int index = 0;

    while (pump->workers[index] != worker)
        index++;
    worker->turn++;
    worker->question = *question;
    worker->question.cookie = ((uint64_t)worker->turn << 16) | index;
    worker->question.pid = worker->job.request->pid;
    worker->open = 1;
    worker->next = NULL;
    if (pump->last)
        pump->last->next = worker;
    else
        pump->first = worker;
    pump->last = worker;
}

/* Put the question to Python and wait; the answer is in job.found. First Python is woken, then who is next
   at the door. */
void pm_put(struct worker *worker, const pm_question *question)
{
    struct pm_pump *pump = worker->pump;
    int code;

    pump->counters[PM_ASKED]++;
    pthread_mutex_lock(&pump->lock);
    queue_question(worker, question);
    pthread_mutex_unlock(&pump->lock);
    tell(pump);
    pm_leave_door(worker);
    pthread_mutex_lock(&pump->lock);
    code = await_reply(worker);
    worker->gave_up = worker->open;
    if (worker->open) {
        withdraw(worker);
        worker->job.found.verdict = PM_ERRNO;
        worker->job.found.code = code;
    }
    pthread_mutex_unlock(&pump->lock);
}

int pm_pump_next(pm_pump *pump, pm_question *question)
{
    struct worker *worker;

    pthread_mutex_lock(&pump->lock);
    worker = pump->first;
    if (worker) {
        pump->first = worker->next;
        if (!pump->first)
            pump->last = NULL;
        *question = worker->question;
    }
    pthread_mutex_unlock(&pump->lock);
    return worker != NULL;
}

/* ESRCH: that question is not open (the pump is stopping). */
int pm_pump_reply(pm_pump *pump, unsigned long long cookie, const pm_answer *answer)
{
    unsigned int index = cookie & 0xffff;
    struct worker *worker;
    int failed = ESRCH;

    if (answer->size < 0 || answer->size >= PATH_MAX)
        return ENAMETOOLONG;
    if (answer->verdict == PM_TREE_PATH)
        pm_trees_note(pump->trees, answer->root);
    pthread_mutex_lock(&pump->lock);
    worker = index < (unsigned)pump->count ? pump->workers[index] : NULL;
    if (worker && worker->open && worker->question.cookie == cookie) {
        struct pm_found *found = &worker->job.found;

        found->verdict = answer->verdict;
        found->code = answer->code;
        found->root = answer->root;
        found->size = answer->size;
        memcpy(found->value, answer->value, (size_t)answer->size);
        found->value[answer->size] = 0;
        worker->open = 0;
        failed = 0;
    }
    pthread_mutex_unlock(&pump->lock);
    if (!failed)
        pthread_cond_signal(&worker->replied); /* under the lock it would wake only to wait for that */
    return failed;
}
