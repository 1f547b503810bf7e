/* fake_nvml.c with the use of a GPU, which NVML does not tell of MIG instances. */
#include "fake_nvml.c"

typedef struct { unsigned gpu, memory; } Utilization;

int nvmlDeviceGetUtilizationRates(const Device *device, Utilization *rates) {
    if (is("a100-mig") || strncmp(device->uuid, "MIG-", 4) == 0) return NOT_SUPPORTED;
    rates->gpu = 73;
    rates->memory = 5;
    return SUCCESS;
}
