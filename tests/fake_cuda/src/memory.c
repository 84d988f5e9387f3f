/* Memory of the "device", which is the host's: guarded, poisoned, counted; and pinned memory.
 *
 * Each allocation ends at a page that nobody may touch, so what runs over its end faults; fewer
 * bytes than CUDA's alignment are caught by a pattern that is looked at when it is freed. New
 * memory is all ones: NaN as float or half, -1 as an integer. */
#define _GNU_SOURCE
#include "fake.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define ALIGNMENT ((size_t)256)
#define ADDRESSES ((size_t)1 << 42)
#define POISON 0xFF
#define CANARY 0xC5

typedef struct Block {
    Address at;
    size_t bytes;
    void *first; /* of the pages that may be touched */
    size_t inner_bytes;
    int device;
    int is_pinned; /* of the host; else of the device */
    struct Block *next;
} Block;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Block *blocks;
static size_t used[DEVICES_MAX];

static size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

/* Addresses are given out once: what was freed and is freed or used again is then noticed, and is
 * never somebody else's by now. */
static char *take_addresses(size_t bytes) {
    static char *next, *end;
    if (!next || (size_t)(end - next) < bytes) {
        next = mmap(
            NULL, ADDRESSES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (next == MAP_FAILED)
            return next = NULL;
        end = next + ADDRESSES;
    }
    char *taken = next;
    next += bytes;
    return taken;
}

static Block *map(size_t bytes, int device, int is_pinned) {
    size_t aligned = round_up(bytes, ALIGNMENT), inner = round_up(aligned, PAGE);
    char *pages = inner < ADDRESSES / 2 ? take_addresses(inner + 2 * PAGE) : NULL;
    char *first = pages + PAGE;
    if (!pages || mprotect(first, inner, PROT_READ | PROT_WRITE))
        return NULL;
    Block *block = malloc(sizeof *block);
    char *at = first + inner - aligned;
    memset(at, POISON, bytes);
    memset(at + bytes, CANARY, aligned - bytes);
    block->at = (Address)(uintptr_t)at;
    block->bytes = bytes;
    block->first = first;
    block->inner_bytes = inner;
    block->device = device;
    block->is_pinned = is_pinned;
    return block;
}

static void unmap(Block *block) {
    const unsigned char *end = (const unsigned char *)(uintptr_t)block->at + block->bytes;
    for (size_t i = 0; i < round_up(block->bytes, ALIGNMENT) - block->bytes; i++)
        if (end[i] != CANARY) {
            fake_note_overrun();
            break;
        }
    mmap(
        block->first, block->inner_bytes, PROT_NONE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    free(block);
}

static Status add(size_t bytes, int is_pinned, Address *at) {
    int device = fake_current();
    pthread_mutex_lock(&lock);
    Status status = SUCCESS;
    Block *block = NULL;
    if (!is_pinned && used[device] + bytes > fake_memory_bytes())
        status = OUT_OF_MEMORY;
    else if (!(block = map(bytes, device, is_pinned)))
        status = OUT_OF_MEMORY;
    else {
        block->next = blocks;
        blocks = block;
        if (!is_pinned)
            used[device] += bytes;
        *at = block->at;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static Status drop(Address at, int is_pinned) {
    pthread_mutex_lock(&lock);
    Status status = INVALID_VALUE;
    for (Block **link = &blocks; *link; link = &(*link)->next) {
        Block *block = *link;
        if (block->at != at || block->is_pinned != is_pinned)
            continue;
        *link = block->next;
        if (!is_pinned)
            used[block->device] -= block->bytes;
        unmap(block);
        status = SUCCESS;
        break;
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static int lies_in(Address at, size_t bytes, int is_pinned) {
    int found = 0;
    pthread_mutex_lock(&lock);
    for (Block *block = blocks; block && !found; block = block->next)
        found = block->is_pinned == is_pinned && at >= block->at
                && at + bytes <= block->at + block->bytes;
    pthread_mutex_unlock(&lock);
    return found;
}

int fake_is_allocated(Address at, size_t bytes) { return lies_in(at, bytes, 0); }

int fake_is_pinned(const void *at, size_t bytes) {
    return lies_in((Address)(uintptr_t)at, bytes, 1);
}

size_t fake_release_all(int device) {
    pthread_mutex_lock(&lock);
    size_t bytes = used[device];
    for (Block **link = &blocks; *link;) {
        Block *block = *link;
        if (block->device != device) {
            link = &block->next;
            continue;
        }
        *link = block->next;
        unmap(block);
    }
    used[device] = 0;
    pthread_mutex_unlock(&lock);
    return bytes;
}

size_t fake_cuda_used(int device) { return used[device]; }

size_t fake_cuda_pinned(void) {
    size_t bytes = 0;
    pthread_mutex_lock(&lock);
    for (Block *block = blocks; block; block = block->next)
        bytes += block->is_pinned ? block->bytes : 0;
    pthread_mutex_unlock(&lock);
    return bytes;
}

Status cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    ENTER_CONTEXT;
    *total_bytes = fake_memory_bytes();
    *free_bytes = *total_bytes - used[fake_current()];
    return SUCCESS;
}

Status cuMemAlloc_v2(Address *at, size_t bytes) {
    ENTER_UNCAPTURED;
    return bytes ? add(bytes, 0, at) : INVALID_VALUE;
}

/* Freeing waits for the device, as the driver's does. */
Status cuMemFree_v2(Address at) {
    ENTER_UNCAPTURED;
    Status status = fake_drain_device(fake_current());
    return status ? status : drop(at, 0);
}

Status cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
    ENTER_UNCAPTURED;
    Address address = 0;
    Status status = add(bytes, 1, &address);
    *at = (void *)(uintptr_t)address;
    return status;
}

Status cuMemFreeHost(void *at) {
    ENTER_UNCAPTURED;
    Status status = fake_drain_device(fake_current());
    return status ? status : drop((Address)(uintptr_t)at, 1);
}

Status cuMemHostRegister_v2(void *at, size_t bytes, unsigned flags) {
    ENTER_CONTEXT;
    return NOT_SUPPORTED;
}

/* Copies without a stream come after what else has none, and wait for no stream of their own. */
static Status copy(void *to, const void *from, size_t bytes, Address device_side) {
    if (!fake_is_allocated(device_side, bytes))
        return INVALID_VALUE;
    Status status = fake_drain_default(fake_current());
    if (!status)
        memmove(to, from, bytes);
    return status;
}

Status cuMemcpyHtoD_v2(Address to, const void *from, size_t bytes) {
    ENTER_UNCAPTURED;
    return copy((void *)(uintptr_t)to, from, bytes, to);
}

Status cuMemcpyDtoH_v2(void *to, Address from, size_t bytes) {
    ENTER_UNCAPTURED;
    return copy(to, (void *)(uintptr_t)from, bytes, from);
}

Status cuMemcpyDtoD_v2(Address to, Address from, size_t bytes) {
    ENTER_UNCAPTURED;
    if (!fake_is_allocated(from, bytes))
        return INVALID_VALUE;
    return copy((void *)(uintptr_t)to, (void *)(uintptr_t)from, bytes, to);
}

Status cuMemsetD8_v2(Address at, unsigned char value, size_t bytes) {
    ENTER_UNCAPTURED;
    if (!fake_is_allocated(at, bytes))
        return INVALID_VALUE;
    Status status = fake_drain_default(fake_current());
    if (!status)
        memset((void *)(uintptr_t)at, value, bytes);
    return status;
}
