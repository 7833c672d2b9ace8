#ifndef RELAY_H
#define RELAY_H
#include <stddef.h>
#include <stdint.h>
#include "api.h"

struct held {
    char *data;
    size_t size;
};

enum state { FREE, RELAYED, BACK };

struct pair {
    unsigned number, generation;
    enum state state;
    int client, application;
    int ended; /* the client's end was passed on */
    unsigned long long served, left;
    unsigned first, pending; /* a ring */
    unsigned char asked[RELAY_PENDING];
    struct held from_client, to_application, from_application, to_client;
    struct pair *next;
};

struct needle {
    int kind;
    char *text;
    size_t size;
};

/* What is asked of a request, and room for its words in small letters: each header a line, `name: value`. */
struct filter {
    struct needle *needles;
    size_t count;
    char headers[RELAY_MOST]; /* a line here is as long as it was */
    size_t size;
};

/* http.c: 0 or an errno. */
int filter_needle(struct filter *, int kind, const char *text, size_t size);
void filter_free(struct filter *);
/* How many bytes at `data` are one plain message; 0: not plain, not whole, or asked for by a needle. */
size_t plain_request(struct filter *, const char *data, size_t size, int *head_only);
/* The head alone; left: bytes of the body that follow it. */
size_t plain_answer(const char *data, size_t size, int head_only, unsigned long long *left);

#endif
