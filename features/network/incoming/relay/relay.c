/* Pairs of sockets, a client's and the application's: plain requests that no needle is in go on to the application, and
   its plain answers back. One thread (relay_run) reads and writes; at the first thing that is not plain, and at every end
   but the plain ones, the pair is Python's again, whole: what was read and not passed on is handed over with it. One lock
   is over all of it; nobody waits for anything under it. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include "relay.h"

enum { EVENTS = 64, CLIENT = 0, APPLICATION = 1 };
static const uint64_t STOP = UINT64_MAX;

struct relay {
    pthread_mutex_t lock;
    int epoll, stop, event;
    struct filter filter;
    struct pair **pairs; /* by number */
    unsigned count;
    struct pair *unused, *first, **last; /* first to last: Python's again, and not told */
    char buffer[RELAY_MOST];
};

static int keep(struct held *held, const char *data, size_t size)
{
    if (!size)
        return 1;
    held->data = malloc(size);
    if (!held->data)
        return 0;
    memcpy(held->data, data, size);
    held->size = size;
    return 1;
}

static void drop(struct held *held)
{
    free(held->data);
    *held = (struct held){0};
}

static uint64_t named(const struct pair *pair, int which)
{
    return (uint64_t)pair->generation << 32 | pair->number << 1 | (unsigned)which;
}

static void give_back(relay *relay, struct pair *pair)
{
    uint64_t one = 1;

    if (pair->client >= 0) {
        epoll_ctl(relay->epoll, EPOLL_CTL_DEL, pair->client, NULL);
        epoll_ctl(relay->epoll, EPOLL_CTL_DEL, pair->application, NULL);
    }
    pair->state = BACK;
    pair->generation++;
    pair->next = NULL;
    *relay->last = pair;
    relay->last = &pair->next;
    if (write(relay->event, &one, sizeof one) < 0)
        return; /* it is full: Python looks anyway */
}

/* How both end when they are closed, by whomever: a killed process must not make them look complete. */
static void linger(int client, int application, int reset)
{
    struct linger linger = {reset, 0};

    setsockopt(client, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    setsockopt(application, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void over(relay *relay, struct pair *pair, int reset)
{
    if (!reset)
        linger(pair->client, pair->application, 0);
    close(pair->client);
    close(pair->application);
    pair->client = pair->application = -1;
    give_back(relay, pair);
}

static size_t requests(relay *relay, struct pair *pair, size_t size)
{
    size_t at = 0;

    while (at < size && pair->pending < RELAY_PENDING) {
        int head_only = 0;
        size_t next = plain_request(&relay->filter, relay->buffer + at, size - at, &head_only);

        if (!next)
            break;
        pair->asked[(pair->first + pair->pending++) % RELAY_PENDING] = (unsigned char)head_only;
        pair->served++;
        at += next;
    }
    return at;
}

static void answered(struct pair *pair)
{
    pair->first = (pair->first + 1) % RELAY_PENDING;
    pair->pending--;
}

static size_t answers(relay *relay, struct pair *pair, size_t size)
{
    size_t at = 0;

    while (at < size) {
        size_t part = size - at;

        if (pair->left) {
            part = part < pair->left ? part : (size_t)pair->left;
            pair->left -= part;
        } else {
            part = pair->pending ? plain_answer(relay->buffer + at, part, pair->asked[pair->first], &pair->left) : 0;
            if (!part)
                break;
        }
        at += part;
        if (!pair->left)
            answered(pair);
    }
    return at;
}

/* Of what was read, `at` bytes are looked at and go on. What there is no room for is Python's, which bounds what is held
   of all connections; so is what is not plain, and all else with it. */
static void passed(relay *relay, struct pair *pair, int to, struct held *unsent, struct held *unseen, size_t at,
                   size_t size)
{
    ssize_t sent = at ? send(to, relay->buffer, at, MSG_NOSIGNAL) : 0;

    if (sent < 0 && errno == EAGAIN)
        sent = 0;
    if (sent < 0 || !keep(unsent, relay->buffer + sent, at - (size_t)sent) ||
        !keep(unseen, relay->buffer + at, size - at))
        over(relay, pair, 1);
    else if (unsent->data || unseen->data)
        give_back(relay, pair);
}

static void from_client(relay *relay, struct pair *pair)
{
    ssize_t size = recv(pair->client, relay->buffer, RELAY_MOST, 0);

    if (size < 0) {
        if (errno != EAGAIN)
            over(relay, pair, 1);
    } else if (size) {
        size_t at = requests(relay, pair, (size_t)size);

        passed(relay, pair, pair->application, &pair->to_application, &pair->from_client, at, (size_t)size);
    } else if (!pair->served || pair->pending || shutdown(pair->application, SHUT_WR)) {
        give_back(relay, pair);
    } else {
        struct epoll_event event = {.events = 0};

        pair->ended = 1;
        event.data.u64 = named(pair, CLIENT);
        epoll_ctl(relay->epoll, EPOLL_CTL_MOD, pair->client, &event);
    }
}

static void from_application(relay *relay, struct pair *pair)
{
    ssize_t size;

    if (!pair->pending && !pair->ended) { /* unasked, or its end: not read, as it may be no HTTP at all */
        give_back(relay, pair);
        return;
    }
    size = recv(pair->application, relay->buffer, RELAY_MOST, 0);
    if (size < 0) {
        if (errno != EAGAIN)
            over(relay, pair, 1);
    } else if (size) {
        size_t at = answers(relay, pair, (size_t)size);

        passed(relay, pair, pair->client, &pair->to_client, &pair->from_application, at, (size_t)size);
    } else if (pair->ended && !pair->pending) {
        over(relay, pair, 0);
    } else {
        give_back(relay, pair);
    }
}

static void happened(relay *relay, struct pair *pair, int which)
{
    if (which == APPLICATION)
        from_application(relay, pair);
    else if (pair->ended) /* only an error is told of it any more */
        over(relay, pair, 1);
    else
        from_client(relay, pair);
}

void relay_run(relay *relay)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int count = epoll_wait(relay->epoll, events, EVENTS, -1);

        for (int i = 0; i < count; i++) {
            uint64_t data = events[i].data.u64;
            struct pair *pair;

            if (data == STOP)
                return;
            pthread_mutex_lock(&relay->lock); /* for one at a time: a new pair waits for no more */
            pair = relay->pairs[(data & UINT32_MAX) >> 1];
            if (pair->state == RELAYED && pair->generation == data >> 32)
                happened(relay, pair, data & 1);
            pthread_mutex_unlock(&relay->lock);
        }
    }
}

void relay_stop(relay *relay)
{
    uint64_t one = 1;

    while (write(relay->stop, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

relay *relay_new(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = STOP};
    relay *made = calloc(1, sizeof *made);

    if (!made)
        return NULL;
    pthread_mutex_init(&made->lock, NULL);
    made->last = &made->first;
    made->epoll = epoll_create1(EPOLL_CLOEXEC);
    made->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    made->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (made->epoll >= 0 && made->stop >= 0 && made->event >= 0 &&
        !epoll_ctl(made->epoll, EPOLL_CTL_ADD, made->stop, &event))
        return made;
    relay_free(made);
    return NULL;
}

int relay_event(relay *relay)
{
    return relay->event;
}

int relay_needle(relay *relay, int kind, const char *text, size_t size)
{
    return filter_needle(&relay->filter, kind, text, size);
}

/* One that is free, or one more. */
static struct pair *unused(relay *relay)
{
    struct pair *found = relay->unused, **more;

    if (found) {
        relay->unused = found->next;
        return found;
    }
    if (!(relay->count & (relay->count + 1)) || !relay->pairs) { /* full at 1, 3, 7 and so on */
        more = realloc(relay->pairs, 2 * (relay->count + 1) * sizeof *more);
        if (!more)
            return NULL;
        relay->pairs = more;
    }
    found = calloc(1, sizeof *found);
    if (found) {
        found->number = relay->count;
        relay->pairs[relay->count++] = found;
    }
    return found;
}

static int watched(relay *relay, struct pair *pair, int which)
{
    struct epoll_event event = {.events = EPOLLIN};

    event.data.u64 = named(pair, which);
    return !epoll_ctl(relay->epoll, EPOLL_CTL_ADD, which == CLIENT ? pair->client : pair->application, &event);
}

static void unuse(relay *relay, struct pair *pair)
{
    pair->state = FREE;
    pair->next = relay->unused;
    relay->unused = pair;
}

/* A request that is there already goes on at once, and wakes nobody for it. */
static void begin(relay *relay, struct pair *pair)
{
    from_client(relay, pair);
    if (pair->state != RELAYED)
        return;
    if (!watched(relay, pair, APPLICATION) || !watched(relay, pair, CLIENT))
        give_back(relay, pair);
}

int relay_give(relay *relay, int client, int application, unsigned *number)
{
    struct pair *pair;

    linger(client, application, 1);
    pthread_mutex_lock(&relay->lock);
    pair = unused(relay);
    if (pair) {
        *number = pair->number;
        pair->state = RELAYED;
        pair->client = client;
        pair->application = application;
        pair->served = pair->left = pair->first = pair->pending = 0;
        pair->ended = 0;
        begin(relay, pair);
    }
    pthread_mutex_unlock(&relay->lock);
    return pair ? 0 : ENOMEM;
}

static relay_bytes shown(const struct held *held)
{
    return (relay_bytes){held->data, held->size};
}

int relay_next(relay *relay, relay_back *back)
{
    struct pair *pair;

    pthread_mutex_lock(&relay->lock);
    pair = relay->first;
    if (pair) {
        relay->first = pair->next;
        if (!relay->first)
            relay->last = &relay->first;
        *back = (relay_back){.number = pair->number, .client = pair->client, .application = pair->application,
                             .served = pair->served, .asked_count = pair->pending, .left = pair->left,
                             .from_client = shown(&pair->from_client), .to_application = shown(&pair->to_application),
                             .from_application = shown(&pair->from_application), .to_client = shown(&pair->to_client)};
        for (unsigned i = 0; i < pair->pending; i++)
            back->asked[i] = pair->asked[(pair->first + i) % RELAY_PENDING];
    }
    pthread_mutex_unlock(&relay->lock);
    return pair != NULL;
}

static void empty(struct pair *pair)
{
    drop(&pair->from_client);
    drop(&pair->to_application);
    drop(&pair->from_application);
    drop(&pair->to_client);
}

void relay_done(relay *relay, unsigned number)
{
    pthread_mutex_lock(&relay->lock);
    empty(relay->pairs[number]);
    unuse(relay, relay->pairs[number]);
    pthread_mutex_unlock(&relay->lock);
}

void relay_cancel(relay *relay, unsigned number)
{
    pthread_mutex_lock(&relay->lock);
    if (relay->pairs[number]->state == RELAYED)
        over(relay, relay->pairs[number], 1);
    pthread_mutex_unlock(&relay->lock);
}

void relay_free(relay *relay)
{
    for (unsigned i = 0; i < relay->count; i++) {
        empty(relay->pairs[i]);
        free(relay->pairs[i]);
    }
    filter_free(&relay->filter);
    free(relay->pairs);
    for (int i = 0; i < 3; i++)
        if ((&relay->epoll)[i] >= 0)
            close((&relay->epoll)[i]);
    pthread_mutex_destroy(&relay->lock);
    free(relay);
}
