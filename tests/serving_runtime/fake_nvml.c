/* The few functions of libnvidia-ml.so.1 that gpu.py and the exporter call through pynvml, for machines
   that tests make up. FAKE_NVML says which: l4, a100-mig, a100, t4x2, p100, no-device, no-driver. */
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9 };
enum { SLOTS = 7 };

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { const char *name, *uuid; unsigned long long mib, used_mib; int major, minor; } Device;

static const Device l4[] = {{"NVIDIA L4", "GPU-l4", 23034, 0, 8, 9}};
static const Device a100[] = {{"NVIDIA A100-SXM4-40GB", "GPU-a100", 40960, 0, 8, 0}};
static const Device t4x2[] = {{"Tesla T4", "GPU-t4-0", 15360, 10000, 7, 5}, {"Tesla T4", "GPU-t4-1", 15360, 0, 7, 5}};
static const Device p100[] = {{"Tesla P100-PCIE-16GB", "GPU-p100", 16384, 0, 6, 0}};
/* Instances of profile 3g.20gb in slots 1 and 4; the other slots are empty. */
static const Device instances[SLOTS] = {[1] = {"NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-one", 19968, 0, 8, 0},
                                        [4] = {"NVIDIA A100-SXM4-40GB MIG 3g.20gb", "MIG-two", 19968, 0, 8, 0}};

static const char *machine(void) {
    const char *name = getenv("FAKE_NVML");
    return name ? name : "no-device";
}

static int is(const char *name) { return strcmp(machine(), name) == 0; }

static unsigned devices(const Device **list) {
    if (is("l4")) { *list = l4; return 1; }
    if (is("a100") || is("a100-mig")) { *list = a100; return 1; }
    if (is("t4x2")) { *list = t4x2; return 2; }
    if (is("p100")) { *list = p100; return 1; }
    return 0;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return is("no-driver") ? DRIVER_NOT_LOADED : SUCCESS; }
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return SUCCESS; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "Success";
    case NOT_SUPPORTED: return "Not Supported";
    case NOT_FOUND: return "Not Found";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    default: return "Invalid Argument";
    }
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    const Device *list;
    *count = devices(&list);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, const Device **device) {
    const Device *list;
    if (index >= devices(&list)) return INVALID_ARGUMENT;
    *device = &list[index];
    return SUCCESS;
}

static int copied(const char *from, char *to, unsigned length) {
    if (strlen(from) >= length) return INVALID_ARGUMENT;
    strcpy(to, from);
    return SUCCESS;
}

int nvmlDeviceGetName(const Device *device, char *name, unsigned length) { return copied(device->name, name, length); }
int nvmlDeviceGetUUID(const Device *device, char *uuid, unsigned length) { return copied(device->uuid, uuid, length); }

int nvmlDeviceGetMemoryInfo(const Device *device, Memory *memory) {
    memory->total = device->mib << 20;
    memory->used = device->used_mib << 20;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(const Device *device, int *major, int *minor) {
    *major = device->major;
    *minor = device->minor;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(const Device *device, unsigned *current, unsigned *pending) {
    if (device->major < 8 || is("l4")) return NOT_SUPPORTED;
    *current = *pending = is("a100-mig");
    return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(const Device *device, unsigned *count) {
    (void)device;
    *count = is("a100-mig") ? SLOTS : 0;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(const Device *device, unsigned index, const Device **instance) {
    (void)device;
    if (index >= SLOTS) return INVALID_ARGUMENT;
    if (!instances[index].name) return NOT_FOUND;
    *instance = &instances[index];
    return SUCCESS;
}
