"""What a plug-in author imports. Only light modules: no ZeroMQ, no stevedore, no file formats."""

from pymirror.core.call import (
    CALLS,
    Bind,
    Call,
    Errno,
    OtherAddress,
    OtherPath,
    Scope,
    Text,
    Untouched,
    Verdict,
)
from pymirror.core.errors import ChannelLost, ConfigError, PeerError, PluginError, PymirrorError, SupportError
from pymirror.core.feature import (
    AgentFeature,
    Launch,
    LayerFeature,
    Peer,
    Process,
    Stream,
    Target,
    handles,
    intercepts,
)
from pymirror.core.message import message

__all__ = [
    "CALLS",
    "AgentFeature",
    "Bind",
    "Call",
    "ChannelLost",
    "ConfigError",
    "Errno",
    "Launch",
    "LayerFeature",
    "OtherAddress",
    "OtherPath",
    "Peer",
    "PeerError",
    "PluginError",
    "Process",
    "PymirrorError",
    "Scope",
    "Stream",
    "SupportError",
    "Target",
    "Text",
    "Untouched",
    "Verdict",
    "handles",
    "intercepts",
    "message",
]
