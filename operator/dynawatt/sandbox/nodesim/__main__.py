"""``python -m dynawatt.sandbox.nodesim``: all simulated GPU nodes of one sandbox in one process."""

import argparse
import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path

from aiohttp import web
from kubernetes.client import ApiClient

from dynawatt.adapters.kubernetes.client import api_client
from dynawatt.errors import InvalidInputError, OperationError
from dynawatt.sandbox.nodesim.addresses import PodAddresses
from dynawatt.sandbox.nodesim.apiserver import ApiServerWriter
from dynawatt.sandbox.nodesim.driver_bridge import DriverBridge
from dynawatt.sandbox.nodesim.gpu_api import GpuApi
from dynawatt.sandbox.nodesim.pod_resources import PodResourcesServers
from dynawatt.sandbox.nodesim.process_pod import Machine
from dynawatt.sandbox.nodesim.simulator import ClusterFollower, NodeSimulator
from dynawatt.sandbox.nodesim.state import AllocationState


async def run(api: ApiClient, *, port: int, state_dir: Path, pod_network: str, driver_dir: Path) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the port is taken."""
    loop = asyncio.get_running_loop()
    bridge = DriverBridge(state_dir, now_s=loop.time)
    pod_resources = PodResourcesServers(state_dir)
    writer = ApiServerWriter(api)
    simulator = NodeSimulator(
        writer=writer,
        state=AllocationState(state_dir),
        now_s=loop.time,
        services=(bridge, pod_resources),
        machine=Machine(writer, state_dir, PodAddresses(pod_network), driver_dir),
    )
    follower = ClusterFollower(api, simulator)
    gpu_api = GpuApi(simulator.nodes, is_synced=lambda: follower.is_synced, now_s=loop.time)
    runner = web.AppRunner(gpu_api.application(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    following = asyncio.gather(follower.run(), bridge.run())
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, following.cancel)
    gc.freeze()  # what exists by now stays, so the collector need not walk it while tokens are due
    try:
        await following
    except asyncio.CancelledError:
        pass
    finally:
        await simulator.stop()
        bridge.close()
        await asyncio.to_thread(pod_resources.stop)
        await runner.cleanup()


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="dynawatt.sandbox.nodesim", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the GPUs' HTTP API, on 127.0.0.1")
    parser.add_argument("--state-dir", type=Path, required=True, help="where the GPUs' drivers outlive this process")
    parser.add_argument("--pod-network", required=True, help="addresses of pods, the upper half of which is free")
    parser.add_argument("--driver-dir", type=Path, required=True, help="where the simulated NVML library is")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        options.state_dir.mkdir(parents=True, exist_ok=True)
        asyncio.run(
            run(
                api_client(options.kubeconfig),
                port=options.port,
                state_dir=options.state_dir.absolute(),
                pod_network=options.pod_network,
                driver_dir=options.driver_dir,
            )
        )
    except (InvalidInputError, OperationError, OSError) as error:
        print(f"dynawatt.sandbox.nodesim: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
