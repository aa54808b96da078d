"""The kubelet's PodResources API: which pod of this node holds which GPU.

``podresources_pb2`` is generated from ``podresources.proto``.
"""

import os

# Whatever goes wrong is told by exceptions. Without this, which grpc reads when it is first imported, lines of its own
# appear on standard error whenever the kubelet restarts.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
