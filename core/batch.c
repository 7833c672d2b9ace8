/* Data frames of streams between their sockets and a message, many in one call and without the interpreter's lock.

   It decides nothing and keeps nothing: core/carrier.py says which sockets, how much of each and under which
   numbers. The layout is docs/wire.md's, a data frame without tag and blobs. Sockets never make it wait. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030A0000
#include <Python.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { HEADER = 28, DATA = 7, MOST = 256 };
#define PIECE ((size_t)16 << 10)  /* bytes of one socket: more is better off in large parts, as it waits for nobody */
#define ROOM ((size_t)1 << 20)    /* bytes of one call: a small request waits for no more than that */
#define MAX_BODY ((uint32_t)4 << 20)
#define ENDED (-1)
#define MORE (-2)

static void put(unsigned char *at, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        at[i] = (unsigned char)(value >> 8 * i);
}

static uint64_t get(const unsigned char *at, int size)
{
    uint64_t value = 0;

    for (int i = size; i--;)
        value = value << 8 | at[i];
    return value;
}

/* From sockets into frames ------------------------------------------------------------------------- */

struct source {
    int fd, state; /* 0, ENDED, MORE or an errno */
    unsigned int number;
    Py_ssize_t room, taken;
};

struct filling {
    unsigned char *data;
    size_t used;
    unsigned long long sequence, acknowledged;
};

static void frame(struct filling *to, unsigned int number, size_t size)
{
    unsigned char *header = to->data + to->used;

    memset(header, 0, HEADER);
    header[0] = DATA;
    put(header + 2, number, 4);
    put(header + 6, to->sequence++, 8);
    put(header + 14, to->acknowledged, 8);
    put(header + 24, size, 4);
    to->used += HEADER + size;
}

static void drain(struct filling *to, struct source *from)
{
    size_t asked = (size_t)from->room < PIECE ? (size_t)from->room : PIECE;
    ssize_t size;

    if (to->used + HEADER + asked > ROOM)
        return;
    size = recv(from->fd, to->data + to->used + HEADER, asked, MSG_DONTWAIT);
    if (size <= 0) {
        from->state = size ? errno : ENDED;
        return;
    }
    frame(to, from->number, (size_t)size);
    from->taken = size;
    if ((size_t)size == PIECE)
        from->state = MORE;
}

static pthread_key_t of_thread;

static unsigned char *room(void)
{
    /* A thread of a loop has one for its life; pages that nobody touched cost nothing. */
    unsigned char *mine = pthread_getspecific(of_thread);

    if (!mine && (mine = malloc(ROOM)) && pthread_setspecific(of_thread, mine)) {
        free(mine);
        mine = NULL;
    }
    return mine;
}

static PyObject *results(const struct source *sources, Py_ssize_t count)
{
    PyObject *list = PyList_New(count);

    for (Py_ssize_t i = 0; list && i < count; i++) {
        PyObject *item = Py_BuildValue("(ni)", sources[i].taken, sources[i].state);

        if (!item) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, i, item);
    }
    return list;
}

PyDoc_STRVAR(fill_doc, "fill([(fd, stream, room), ...], sequence, acknowledged) -> (frames, next sequence, [(taken, state), ...])\n\n"
                       "Reads each socket, at most 256, up to its room and 16 KiB. state: 0, -1 at the end, -2 where that was\n"
                       "too little, or an errno.");

static PyObject *fill(PyObject *module, PyObject *args)
{
    struct source sources[MOST];
    struct filling to = {0};
    PyObject *wanted, *list;
    Py_ssize_t count;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!KK", &PyList_Type, &wanted, &to.sequence, &to.acknowledged))
        return NULL;
    count = PyList_Size(wanted);
    if (count > MOST)
        return PyErr_Format(PyExc_ValueError, "more than %d sockets", MOST);
    for (Py_ssize_t i = 0; i < count; i++) {
        struct source *from = sources + i;

        from->state = 0;
        from->taken = 0;
        if (!PyArg_ParseTuple(PyList_GetItem(wanted, i), "iIn", &from->fd, &from->number, &from->room))
            return NULL;
    }
    to.data = room();
    if (!to.data)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t i = 0; i < count; i++)
        drain(&to, sources + i);
    Py_END_ALLOW_THREADS
    list = results(sources, count);
    if (!list)
        return NULL;
    return Py_BuildValue("(y#KN)", to.data, (Py_ssize_t)to.used, to.sequence, list);
}

/* From frames into sockets ------------------------------------------------------------------------- */

struct piece {
    const unsigned char *data;
    size_t size;
    ssize_t sent; /* or less than 0: none */
    int fd;
    unsigned int number;
};

/* The socket of the frame at `at`, which is `next` in the row and wholly there; -1: somebody else's. */
static int aimed(const unsigned char *at, size_t left, uint64_t next, PyObject *sockets, struct piece *piece)
{
    PyObject *key, *fd;
    uint32_t size;

    if (left < HEADER || at[0] != DATA || at[1] || get(at + 22, 2) || get(at + 6, 8) != next)
        return -1;
    size = (uint32_t)get(at + 24, 4);
    if (size > MAX_BODY || size > left - HEADER)
        return -1;
    piece->number = (unsigned int)get(at + 2, 4);
    piece->data = at + HEADER;
    piece->size = size;
    key = PyLong_FromUnsignedLong(piece->number);
    fd = key ? PyDict_GetItemWithError(sockets, key) : NULL;
    Py_XDECREF(key);
    return piece->fd = fd ? (int)PyLong_AsLong(fd) : -1;
}

/* How many were dealt with: the last of them may have been too much for its socket. */
static int deliver(struct piece *pieces, int count)
{
    for (int i = 0; i < count; i++) {
        struct piece *piece = pieces + i;

        piece->sent = piece->size ? send(piece->fd, piece->data, piece->size, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
        if (piece->sent != (ssize_t)piece->size)
            return i + 1;
    }
    return count;
}

static uint64_t highest(const struct piece *pieces, int count)
{
    uint64_t found = 0;

    for (int i = 0; i < count; i++) {
        uint64_t acknowledged = get(pieces[i].data - HEADER + 14, 8);

        found = acknowledged > found ? acknowledged : found;
    }
    return found;
}

static PyObject *delivered(const struct piece *pieces, int count)
{
    PyObject *list = PyList_New(count);

    for (int i = 0; list && i < count; i++) {
        const struct piece *piece = pieces + i;
        PyObject *item = Py_BuildValue("(Inn)", piece->number, (Py_ssize_t)piece->size, (Py_ssize_t)(piece->sent < 0 ? 0 : piece->sent));

        if (!item) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, i, item);
    }
    return list;
}

PyDoc_STRVAR(give_doc, "give(batch, at, received, {stream: fd}) -> (at, received, acknowledged, [(stream, size, sent), ...])\n\n"
                       "Sends the data frames from `at` on, up to the first that is no such stream's or not the next in the\n"
                       "row, or of which the socket did not take all: that is the last one told.");

static PyObject *give(PyObject *module, PyObject *args)
{
    struct piece pieces[MOST];
    unsigned long long received, acknowledged = 0;
    const unsigned char *batch;
    Py_ssize_t size, at;
    PyObject *sockets, *list;
    int count = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "y#nKO!", &batch, &size, &at, &received, &PyDict_Type, &sockets))
        return NULL;
    if (at < 0 || at > size)
        return PyErr_Format(PyExc_ValueError, "outside of the batch");
    for (const unsigned char *here = batch + at; count < MOST; count++) {
        if (aimed(here, (size_t)(batch + size - here), received + 1 + (unsigned)count, sockets, pieces + count) < 0)
            break;
        here = pieces[count].data + pieces[count].size;
    }
    if (PyErr_Occurred())
        return NULL;
    if (count) {
        Py_BEGIN_ALLOW_THREADS
        count = deliver(pieces, count);
        Py_END_ALLOW_THREADS
        at = pieces[count - 1].data + pieces[count - 1].size - batch;
        acknowledged = highest(pieces, count);
        received += (unsigned)count;
    }
    list = delivered(pieces, count);
    return list ? Py_BuildValue("(nKKN)", at, received, acknowledged, list) : NULL;
}

static PyMethodDef methods[] = {
    {"fill", fill, METH_VARARGS, fill_doc},
    {"give", give, METH_VARARGS, give_doc},
    {0},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_batch", .m_methods = methods};

PyMODINIT_FUNC PyInit__batch(void)
{
    if (pthread_key_create(&of_thread, free))
        return PyErr_NoMemory();
    return PyModule_Create(&definition);
}
