from dynawatt.workload.objectives import LatencyObjectives


class HandModels:
    """Numbers that can be followed on paper: at 1000 MHz 1 s, and 1/8 s more for every token."""

    released_w = 70.0

    def step_s(self, batch, clock_mhz):
        return (1 + (batch.decode_requests + batch.prefill_tokens) / 8) * 1000 / clock_mhz

    def power_w(self, batch, clock_mhz):
        return 400.0 if batch.prefill_tokens else 200.0

    def loaded_idle_w(self, clock_mhz):
        return clock_mhz / 10


def objectives(ttft_s=10.0, tbt_s=10.0):
    return LatencyObjectives(((None, ttft_s),), tbt_s)
