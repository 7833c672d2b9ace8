/* For whom the connections are that the layer makes to the program's listeners: by the address such a connection comes
   from, for the accepted socket does not exist yet when the connection is made. Bounded: one for each port and
   IP version. Addresses are kept as IPv6 ones, IPv4 mapped, and told as the socket that asks can have them. */
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "pump.h"

#define PORTS 65536

struct guest {
    struct sockaddr_in6 door, client, address;
};

struct pm_guests {
    pthread_rwlock_t lock;
    int count;
    struct guest *known[2][PORTS]; /* IPv4, IPv6; the kernel gives pages as they are used */
};

struct pm_guests *pm_guests_new(void)
{
    struct pm_guests *guests = calloc(1, sizeof *guests);

    if (guests)
        pthread_rwlock_init(&guests->lock, NULL);
    return guests;
}

void pm_guests_free(struct pm_guests *guests)
{
    if (!guests)
        return;
    for (int i = 0; i < 2 * PORTS; i++)
        free(guests->known[i / PORTS][i % PORTS]);
    pthread_rwlock_destroy(&guests->lock);
    free(guests);
}

int pm_guests_any(struct pm_guests *guests)
{
    return __atomic_load_n(&guests->count, __ATOMIC_RELAXED) > 0;
}

static struct guest **place_of(struct pm_guests *guests, const struct sockaddr_in6 *door)
{
    return &guests->known[!IN6_IS_ADDR_V4MAPPED(&door->sin6_addr)][ntohs(door->sin6_port)];
}

/* 0: it is no internet address. */
static int widen(const struct pm_address *address, struct sockaddr_in6 *wide)
{
    struct sockaddr_in four;

    memcpy(wide, address->bytes, sizeof *wide);
    memcpy(&four, address->bytes, sizeof four);
    if (four.sin_family == AF_INET6)
        return address->size >= sizeof *wide;
    *wide = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = four.sin_port};
    wide->sin6_addr.s6_addr[10] = wide->sin6_addr.s6_addr[11] = 0xff;
    memcpy(&wide->sin6_addr.s6_addr[12], &four.sin_addr, sizeof four.sin_addr);
    return four.sin_family == AF_INET && address->size >= sizeof four;
}

/* 0: a socket of that domain has no such addresses. */
static int fit(const struct sockaddr_in6 *wide, int domain, struct pm_address *address)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = wide->sin6_port};

    if (domain == AF_INET6) {
        address->size = sizeof *wide;
        memcpy(address->bytes, wide, sizeof *wide);
        return 1;
    }
    if (!IN6_IS_ADDR_V4MAPPED(&wide->sin6_addr))
        return 0;
    memcpy(&four.sin_addr, &wide->sin6_addr.s6_addr[12], sizeof four.sin_addr);
    address->size = sizeof four;
    memcpy(address->bytes, &four, sizeof four);
    return 1;
}

/* Who connects from `peer`, to a socket of that domain: its client's address, or the one that the client spoke to. 0: no
   guest. */
int pm_guests_find(struct pm_guests *guests, const struct pm_address *peer, int domain, int client,
                   struct pm_address *found)
{
    struct sockaddr_in6 wide;
    struct guest *guest;
    int known;

    if (!pm_guests_any(guests) || !widen(peer, &wide))
        return 0;
    pthread_rwlock_rdlock(&guests->lock);
    guest = *place_of(guests, &wide);
    known = guest && memcmp(&guest->door.sin6_addr, &wide.sin6_addr, sizeof wide.sin6_addr) == 0 &&
            fit(client ? &guest->client : &guest->address, domain, found);
    pthread_rwlock_unlock(&guests->lock);
    return known;
}

/* ENOMEM. */
int pm_guest_put(pm_pump *pump, const char *door, const char *client, const char *address)
{
    struct guest *guest = malloc(sizeof *guest), **place;

    if (!guest)
        return ENOMEM;
    memcpy(&guest->door, door, sizeof guest->door);
    memcpy(&guest->client, client, sizeof guest->client);
    memcpy(&guest->address, address, sizeof guest->address);
    pthread_rwlock_wrlock(&pump->guests->lock);
    place = place_of(pump->guests, &guest->door);
    pump->guests->count += !*place;
    free(*place);
    *place = guest;
    pthread_rwlock_unlock(&pump->guests->lock);
    return 0;
}

void pm_guest_drop(pm_pump *pump, const char *door)
{
    struct sockaddr_in6 wide;
    struct guest **place;

    memcpy(&wide, door, sizeof wide);
    pthread_rwlock_wrlock(&pump->guests->lock);
    place = place_of(pump->guests, &wide);
    pump->guests->count -= *place != NULL;
    free(*place);
    *place = NULL;
    pthread_rwlock_unlock(&pump->guests->lock);
}

int pm_guest(pm_pump *pump, const char *peer, int size, int domain, int client, char *into)
{
    struct pm_address raw = {.size = (unsigned char)size}, found;

    memcpy(raw.bytes, peer, (size_t)size);
    if (!pm_guests_find(pump->guests, &raw, domain, client, &found))
        return 0;
    memcpy(into, found.bytes, found.size);
    return found.size;
}
