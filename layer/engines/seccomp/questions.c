/* Questions to Python and their answers. Rules: what the table does not know goes into a queue, and an event descriptor
   says so; a thread waits for the reply, or a parked call goes on with it; what is read of a question is copied
   under lock, for who asked may be gone; a reply that comes too late goes nowhere. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "pump.h"

void pm_tell(struct pm_pump *pump)
{
    uint64_t one = 1;
    ssize_t done = write(pump->event, &one, sizeof one);

    (void)done; /* EAGAIN: the counter is full, so it is readable already */
}

/* To the end of the queue. */
void pm_question_queue(struct pm_pump *pump, struct asked *asked, const pm_question *question)
{
    struct asked **bucket;

    pump->counters[PM_ASKED]++;
    asked->question = *question;
    asked->question.cookie = ++pump->cookies;
    asked->open = 1;
    asked->next = NULL;
    if (pump->last)
        pump->last->next = asked;
    else
        pump->first = asked;
    pump->last = asked;
    bucket = &pump->open[pump->cookies % PM_BUCKETS];
    asked->other = *bucket;
    *bucket = asked;
}

/* The place that points to an open question; *place is NULL where there is none. */
static struct asked **place_of(struct pm_pump *pump, unsigned long long cookie)
{
    struct asked **place = &pump->open[cookie % PM_BUCKETS];

    while (*place && (*place)->question.cookie != cookie)
        place = &(*place)->other;
    return place;
}

static void shut(struct pm_pump *pump, struct asked *asked)
{
    struct asked **place = place_of(pump, asked->question.cookie);

    *place = asked->other;
    asked->open = 0;
}

/* Nobody waits for the reply any more, and Python need not see the question if it has not. */
void pm_question_withdraw(struct pm_pump *pump, struct asked *asked)
{
    struct asked *before = NULL;

    if (!asked->open)
        return;
    shut(pump, asked);
    for (struct asked *each = pump->first; each; before = each, each = each->next) {
        if (each != asked)
            continue;
        if (before)
            before->next = asked->next;
        else
            pump->first = asked->next;
        if (pump->last == asked)
            pump->last = before;
        return;
    }
}

/* Put job's question to Python and wait; the answer is in job.found, EIO when the pump stops. First Python is
   woken, then who is next at the door. */
void pm_ask(struct worker *worker)
{
    struct pm_pump *pump = worker->pump;
    struct asked *asked = &worker->asked;
    const struct pm_job *job = &worker->job;
    pm_question question = {.kind = job->kind, .follow = job->follow, .path = job->path,
                            .size = (int)strlen(job->path), .pid = job->request->pid,
                            .system = job->kind == PM_OTHER ? pm_other_name(job->request->data.nr) : ""};

    pthread_mutex_lock(&pump->lock);
    pm_question_queue(pump, asked, &question);
    pthread_mutex_unlock(&pump->lock);
    pm_tell(pump);
    pm_leave_door(worker);
    pthread_mutex_lock(&pump->lock);
    while (asked->open && !pump->stopping)
        pthread_cond_wait(&worker->replied, &pump->lock);
    if (asked->open) {
        pm_question_withdraw(pump, asked);
        worker->job.found.verdict = PM_ERRNO;
        worker->job.found.code = EIO;
    }
    pthread_mutex_unlock(&pump->lock);
}

/* path: room for PM_LONGEST bytes, where the question's path is then. */
int pm_pump_next(pm_pump *pump, pm_question *question, char *path)
{
    struct asked *asked;

    pthread_mutex_lock(&pump->lock);
    asked = pump->first;
    if (asked) {
        pump->first = asked->next;
        if (!pump->first)
            pump->last = NULL;
        *question = asked->question;
        memcpy(path, question->path, (size_t)question->size);
        question->path = path;
    }
    pthread_mutex_unlock(&pump->lock);
    return asked != NULL;
}

static void fill(struct pm_found *found, const pm_answer *answer)
{
    found->verdict = answer->verdict;
    found->code = answer->code;
    found->root = answer->root;
    found->size = answer->size;
    memcpy(found->value, answer->value, (size_t)answer->size);
    found->value[answer->size] = 0;
}

/* ESRCH: that question is not open (it was given up, or the pump is stopping). */
int pm_pump_reply(pm_pump *pump, unsigned long long cookie, const pm_answer *answer)
{
    struct worker *worker = NULL;
    struct asked *asked;
    int ready = 0;

    if (answer->size < 0 || answer->size >= PATH_MAX)
        return ENAMETOOLONG;
    if (answer->verdict == PM_TREE_PATH)
        pm_trees_note(pump->trees, answer->root);
    pthread_mutex_lock(&pump->lock);
    asked = *place_of(pump, cookie);
    if (asked) {
        fill(asked->found, answer);
        shut(pump, asked);
        worker = asked->worker;
        if (!worker)
            ready = pm_parked_over(pump, asked->call, 0);
    }
    pthread_mutex_unlock(&pump->lock);
    if (worker)
        pthread_cond_signal(&worker->replied); /* under the lock it would wake only to wait for that */
    if (ready)
        pm_admit(pump);
    return asked ? 0 : ESRCH;
}
