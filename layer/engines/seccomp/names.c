/* What sockets are shown to be connected to, by the kernel's number of the socket: SO_COOKIE, which all
   who share a socket share and which is never used again, so a stale entry can mislead nobody. Bounded: what
   was not used for longest makes room (by second chances), for nobody tells when a socket is closed, and a
   busy program's name queries alone fill the table in an hour. The connection itself is the kernel's. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define MOST_NAMES 32768
#define BUCKETS 8192

struct entry {
    struct pm_name name;
    int next; /* in its bucket, 0: none; entries count from 1 */
    int used; /* since the hand came by last */
};

struct pm_names {
    pthread_mutex_t lock;
    int hand, used;
    int buckets[BUCKETS];
    struct entry entries[MOST_NAMES + 1];
};

struct pm_names *pm_names_new(void)
{
    struct pm_names *names = calloc(1, sizeof *names); /* the kernel gives pages as they are used */

    if (names)
        pthread_mutex_init(&names->lock, NULL);
    return names;
}

void pm_names_free(struct pm_names *names)
{
    if (!names)
        return;
    pthread_mutex_destroy(&names->lock);
    free(names);
}

int pm_names_any(struct pm_names *names)
{
    return __atomic_load_n(&names->used, __ATOMIC_RELAXED) > 0;
}

static int *bucket_of(struct pm_names *names, uint64_t socket)
{
    return &names->buckets[socket % BUCKETS];
}

static int same(const struct pm_address *one, const struct pm_address *other)
{
    return one->size == other->size && memcmp(one->bytes, other->bytes, one->size) == 0;
}

/* What an entry is looked for by: its socket, and of a flow its peer, or anything's relay. */
struct key {
    uint64_t socket;
    int flow;
    const struct pm_address *peer, *relay;
};

static int fits(const struct pm_name *name, const struct key *key)
{
    if (name->socket != key->socket)
        return 0;
    if (key->relay)
        return name->kind != PM_LOCAL_FLOW && same(&name->relay, key->relay);
    return (name->kind != PM_CONNECTED) == key->flow && (!key->peer || same(&name->peer, key->peer));
}

/* The place that points to the entry; *place is 0 where there is none. */
static int *place_of(struct pm_names *names, const struct key *key)
{
    int *place = bucket_of(names, key->socket);

    while (*place && !fits(&names->entries[*place].name, key))
        place = &names->entries[*place].next;
    return place;
}

static struct key key_of(const struct pm_name *name)
{
    int flow = name->kind != PM_CONNECTED;

    return (struct key){name->socket, flow, flow ? &name->peer : NULL, NULL};
}

static void unlink_entry(struct pm_names *names, const struct key *key)
{
    int *place = place_of(names, key), number = *place;

    if (!number)
        return;
    *place = names->entries[number].next;
    names->entries[number].name.socket = 0;
}

/* The next entry to fill: free, or not used for a whole round of the hand. */
static struct entry *next_entry(struct pm_names *names)
{
    struct entry *entry;

    for (;;) {
        names->hand = names->hand % MOST_NAMES + 1;
        entry = &names->entries[names->hand];
        if (!entry->name.socket || !entry->used)
            return entry;
        entry->used = 0;
    }
}

/* In the place of what the socket was before, else of what is not used. */
void pm_names_put(struct pm_names *names, const struct pm_name *name)
{
    struct key key = key_of(name);
    struct entry *entry;
    int *bucket;

    pthread_mutex_lock(&names->lock);
    unlink_entry(names, &key);
    if (names->used < MOST_NAMES)
        names->used++;
    entry = next_entry(names);
    if (entry->name.socket) {
        key = key_of(&entry->name);
        unlink_entry(names, &key);
    }
    bucket = bucket_of(names, name->socket);
    entry->name = *name;
    entry->used = 0;
    entry->next = *bucket;
    *bucket = names->hand;
    pthread_mutex_unlock(&names->lock);
}

void pm_names_drop(struct pm_names *names, uint64_t socket)
{
    struct key key = {.socket = socket};

    pthread_mutex_lock(&names->lock);
    unlink_entry(names, &key);
    pthread_mutex_unlock(&names->lock);
}

/* Its flow to that peer. */
void pm_names_drop_flow(struct pm_names *names, uint64_t socket, const struct pm_address *peer)
{
    struct key key = {.socket = socket, .flow = 1, .peer = peer};

    pthread_mutex_lock(&names->lock);
    unlink_entry(names, &key);
    pthread_mutex_unlock(&names->lock);
}

/* With its flows. */
void pm_names_drop_all(struct pm_names *names, uint64_t socket)
{
    struct key connected = {.socket = socket}, flow = {.socket = socket, .flow = 1};

    pthread_mutex_lock(&names->lock);
    while (*place_of(names, &connected))
        unlink_entry(names, &connected);
    while (*place_of(names, &flow))
        unlink_entry(names, &flow);
    pthread_mutex_unlock(&names->lock);
}

static int find(struct pm_names *names, const struct key *key, struct pm_name *found)
{
    int number;

    pthread_mutex_lock(&names->lock);
    number = *place_of(names, key);
    if (number) {
        *found = names->entries[number].name;
        names->entries[number].used = 1;
    }
    pthread_mutex_unlock(&names->lock);
    return number != 0;
}

/* What the socket is connected to. */
int pm_names_find(struct pm_names *names, uint64_t socket, struct pm_name *found)
{
    return find(names, &(struct key){.socket = socket}, found);
}

/* Where the socket's datagrams to that peer go. */
int pm_names_flow(struct pm_names *names, uint64_t socket, const struct pm_address *peer, struct pm_name *found)
{
    return find(names, &(struct key){.socket = socket, .flow = 1, .peer = peer}, found);
}

/* Whom a datagram from a relay is from. */
int pm_names_source(struct pm_names *names, uint64_t socket, const struct pm_address *relay, struct pm_name *found)
{
    return find(names, &(struct key){.socket = socket, .relay = relay}, found);
}

/* Is there anything about that socket? */
int pm_names_talks(struct pm_names *names, uint64_t socket)
{
    struct pm_name name;

    return find(names, &(struct key){.socket = socket}, &name) ||
           find(names, &(struct key){.socket = socket, .flow = 1}, &name);
}
