"""The cluster-wide switch as the operator sees it: while it is off, nothing is changed."""

import asyncio
import logging
from typing import Final

from dynawatt.adapters.kubernetes.client import API_ERRORS, describe_error
from dynawatt.adapters.kubernetes.cluster import Cluster
from dynawatt.api.switch import SWITCH_NAME, gives_back, switched_off

_PERIOD_S: Final = 5.0

_log = logging.getLogger(__name__)


class Switch:
    """Asks for the ConfigMap every few seconds; what cannot be asked for stays as it was."""

    def __init__(self, cluster: Cluster, *, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self.off = ""
        """Why dynawatt is off; empty while it is on, and before the ConfigMap was first read."""
        self.gives_back = False
        """Whether everything is to be given back."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.look)
            except API_ERRORS as error:
                _log.warning("switch=%s error=%r", SWITCH_NAME, describe_error(error))
            await asyncio.sleep(_PERIOD_S)

    def look(self) -> None:
        """Ask once. Raises API_ERRORS."""
        config_map = self._cluster.config_map(self._namespace, SWITCH_NAME)
        off, back = switched_off(config_map), gives_back(config_map)
        if (off, back) != (self.off, self.gives_back):
            _log.warning("switch=%s off=%r give_back=%s", SWITCH_NAME, off, back)
        self.off, self.gives_back = off, back
