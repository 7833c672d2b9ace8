/* The face of the relay towards Python, and the only header cffi reads: so no #include and no guard (relay.h adds both).
   Integers and flat structs only; a function that can fail returns 0 or a positive errno. */

enum { RELAY_MOST = 65536, RELAY_PENDING = 100 }; /* bytes of a read, and of a message; requests that wait for answers */
enum relay_kind { RELAY_HEADER, RELAY_PATH, RELAY_METHOD };

typedef struct relay relay;

typedef struct {
    const char *data;
    size_t size;
} relay_bytes;

/* A pair that is Python's again. client, application: sockets, or -1 each: all of it is over. from_*: read, not
   looked at, and not passed on; to_*: looked at, and there was no room for it. asked: a byte for each request that
   waits for its answer, 1 for HEAD. left: of the answer that is under way. served: requests passed on. */
typedef struct {
    unsigned number;
    int client;
    int application;
    unsigned long long served;
    unsigned asked_count;
    unsigned char asked[RELAY_PENDING];
    unsigned long long left;
    relay_bytes from_client;
    relay_bytes to_application;
    relay_bytes from_application;
    relay_bytes to_client;
} relay_back;

relay *relay_new(void);
/* Python looks here for pairs that are its own again. */
int relay_event(relay *);
/* What a request must hold to be Python's: the text, in small letters, somewhere in a header as `name: value`, or in
   the target; or the method. Before the first pair. */
int relay_needle(relay *, int kind, const char *text, size_t size);
/* Until relay_stop, in a thread of its own. */
void relay_run(relay *);
void relay_stop(relay *);
/* The sockets are the relay's from here on, unless it fails. */
int relay_give(relay *, int client, int application, unsigned *number);
/* 0: there is none. What it points to is there until relay_done. */
int relay_next(relay *, relay_back *);
void relay_done(relay *, unsigned number);
/* End a pair by reset; what was Python's already stays so. */
void relay_cancel(relay *, unsigned number);
void relay_free(relay *);
