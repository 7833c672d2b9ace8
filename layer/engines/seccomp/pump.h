/* The pump's inside, for the files that share it: pump.c (threads, the door), questions.c (to Python) and decide.c
   (from a notification to its verdict). A worker belongs to one thread; what others touch is under lock. */
#ifndef PYMIRROR_PUMP_H
#define PYMIRROR_PUMP_H

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "parts.h"

#define MOST_WORKERS 256
#define WAKE (SIGRTMAX - 1) /* gets a thread of ours out of its system call; nobody else's */

struct parked;
struct worker;
TAILQ_HEAD(parked_list, parked);

/* A question to Python, from its asking to its answer. */
struct asked {
    struct asked *next;  /* in the queue, until Python takes it */
    struct asked *other; /* in its bucket, while it is open */
    pm_question question;
    int open;
    struct pm_found *found; /* where the answer goes */
    struct worker *worker;  /* whose thread waits for it; NULL: */
    struct parked *call;    /* what goes on with it */
};

struct worker {
    struct pm_pump *pump;
    pthread_t thread;
    pthread_cond_t replied;
    struct asked asked;
    int at_door;
    struct seccomp_notif request;
    struct pm_job job;
};

#define PM_BUCKETS 1024

struct pm_pump {
    int listener;
    int event;
    int root; /* our own */
    uint64_t network; /* the cookie of our network namespace */
    struct pm_rights own;
    char **skip;
    int skips;
    struct pm_table *table;
    struct pm_trees *trees;
    struct pm_names *names;
    struct pm_names *bound; /* of sockets that are bound elsewhere than they show: these must not make room for others */
    struct pm_guests *guests;
    pthread_mutex_t accepts; /* one thread at a time accepts from a listener that might make it wait */
    pthread_mutex_t lock; /* workers, questions, calls that wait */
    pthread_mutex_t settling; /* whose new flow it is */
    struct worker *workers[MOST_WORKERS];
    int count;
    unsigned long long cookies; /* of the last question */
    struct asked *first, *last, *open[PM_BUCKETS];
    struct parked_list waits, ready; /* ready: a thread is to go on with it */
    int bell, epoll; /* of the watcher */
    long long earliest; /* ms of the clock: no parked call's limit is before, 0: none has one */
    int asleep, watched, receiving;
    pthread_t watcher;
    sem_t door; /* one may pass, and one for each call that is ready; a condition would cost two wake-ups more */
    atomic_int waiting, alive, stopping;
    atomic_llong counters[PM_COUNTERS];
};

void pm_ask(struct worker *worker);        /* put job's question to Python; its verdict is in job.found */
void pm_leave_door(struct worker *worker); /* before what may take long */
void pm_admit(struct pm_pump *pump);       /* one more thread may pass the door */
int pm_start_thread(pthread_t *thread, void *(*work)(void *), void *given);
void pm_serve(struct worker *worker);      /* one notification, to its answer */
void pm_serve_socket(struct worker *worker); /* sockets.c: the same for calls on sockets */
void pm_leave_alone(struct worker *worker);
int pm_take_descriptor(pid_t thread, int number); /* sockets.c: one of the program's, or -1 */
int pm_look(struct worker *worker, int argument, int follow, int *slash, int *alone); /* decide.c: where a path leads */
void pm_serve_other(struct worker *worker); /* other.c: calls that are carried out here only */

/* questions.c, under lock */
void pm_question_queue(struct pm_pump *pump, struct asked *asked, const pm_question *question);
void pm_question_withdraw(struct pm_pump *pump, struct asked *asked);
void pm_tell(struct pm_pump *pump); /* Python, that there are some; without the lock */

/* parked.c */
int pm_watcher_start(struct pm_pump *pump);
void pm_watcher_wake(struct pm_pump *pump);
int pm_parked_over(struct pm_pump *pump, struct parked *call, int code); /* under lock; 1: then pm_admit */
int pm_parked_go_on(struct worker *worker); /* with one that is ready; 0: there is none */
void pm_parked_free(struct pm_pump *pump);

#endif
