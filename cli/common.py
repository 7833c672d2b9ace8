"""What the commands share: the session's flags, the vocabulary, and one way for errors to be shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:  # imported late: `pymirror --help` needs none of it
    from pymirror.core.config import Settings, Vocabulary

F = TypeVar("F", bound=Callable[..., Any])

# flag, variable without prefix, help (mirrord: 1.2; every flag is its variable's twin)
VALUES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("-t", "--target"),
        "IMPERSONATED_TARGET",
        "The target: pod/NAME, deployment/NAME/container/C, process/PID, …",
    ),
    (("-n", "--target-namespace", "--namespace"), "TARGET_NAMESPACE", "The target's namespace."),
    (("-a", "--agent-namespace"), "AGENT_NAMESPACE", "Namespace of the agent's Job."),
    (("-l", "--agent-log-level"), "AGENT_RUST_LOG", "The agent's log level."),
    (("-i", "--agent-image"), "AGENT_IMAGE", "The agent's image."),
    (("--agent-ttl",), "AGENT_TTL", "Seconds a finished agent Job is kept."),
    (("--agent-startup-timeout",), "AGENT_STARTUP_TIMEOUT", "Seconds for starting, all in all."),
    (("--fs-mode",), "FILE_MODE", "write, read, local or localwithoverrides."),
    (
        ("-x", "--override-env-vars-exclude"),
        "OVERRIDE_ENV_VARS_EXCLUDE",
        "Variables not to take, `;` between them.",
    ),
    (
        ("-s", "--override-env-vars-include"),
        "OVERRIDE_ENV_VARS_INCLUDE",
        "Only these variables, `;` between them.",
    ),
    (("--env-file",), "OVERRIDE_ENV_VARS_FILE", "A dotenv file that beats the target's variables."),
    (("--skip-processes",), "SKIP_PROCESSES", "Program names to leave alone, `;` between them."),
    (("--context",), "KUBE_CONTEXT", "The kubeconfig's context."),
    (("-k", "--key"), "KEY", "Name of this session, for templates."),
    (("--engine",), "ENGINE", "How calls are caught: auto or seccomp."),
)
# flag, {variable: text it stands for}, help
SWITCHES: tuple[tuple[tuple[str, ...], dict[str, str], str], ...] = (
    (("-e", "--ephemeral-container"), {"EPHEMERAL_CONTAINER": "true"}, "Agent as an ephemeral container."),
    (("--no-remote-dns",), {"REMOTE_DNS": "false"}, "Resolve names here."),
    (("--no-outgoing",), {"TCP_OUTGOING": "false", "UDP_OUTGOING": "false"}, "Leave outgoing traffic alone."),
    (("--no-tcp-outgoing",), {"TCP_OUTGOING": "false"}, "Leave outgoing TCP alone."),
    (("--no-udp-outgoing",), {"UDP_OUTGOING": "false"}, "Leave outgoing UDP alone."),
    (("--steal",), {"AGENT_TCP_STEAL_TRAFFIC": "true"}, "Take the target's incoming traffic."),
    (("--no-telemetry",), {}, "Accepted; nothing is ever sent."),
    (("--disable-version-check",), {}, "Accepted; no version is ever asked for."),
)
BARE = "\0discover"


def _name(flags: tuple[str, ...]) -> str:
    return next(f for f in flags if f.startswith("--"))[2:].replace("-", "_")


def session_options(command: F) -> F:
    """The flags of exec, ls, explain and verify-config that set configuration."""
    for flags, _, help in reversed(VALUES):
        command = click.option(*flags, _name(flags), metavar="VALUE", help=help)(command)
    for flags, _, help in reversed(SWITCHES):
        command = click.option(*flags, _name(flags), is_flag=True, help=help)(command)
    command = click.option(
        "-c",
        "--accept-invalid-certificates",
        "accept_invalid_certificates",
        is_flag=False,
        flag_value="true",
        metavar="[true|false]",
        help="Do not verify the API server's certificate.",
    )(command)
    return click.option(
        "-f",
        "--config-file",
        "config_file",
        is_flag=False,
        flag_value=BARE,
        metavar="[PATH]",
        help="Configuration file; without PATH .pymirror/pymirror.* or .mirrord/mirrord.json; - is stdin.",
    )(command)


def flags_of(options: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Variable without prefix → (text, spelling of the flag) for the flags that were given."""
    said: dict[str, tuple[str, str]] = {}
    for flags, variables, _ in SWITCHES:
        if options.get(_name(flags)):
            said.update({variable: (text, flags[-1]) for variable, text in variables.items()})
    for flags, variable, _ in VALUES:
        text = options.get(_name(flags))
        if text is not None:
            fixed = "localwithoverrides" if text == "local-with-overrides" else text
            said[variable] = (fixed, flags[-1] if len(flags) == 1 else flags[1])
    accept = options.get("accept_invalid_certificates")
    if accept is not None:
        said["ACCEPT_INVALID_CERTIFICATES"] = (
            accept.removeprefix("="),
            "-c",
        )  # -c=false is mirrord's spelling
    return said


def vocabulary() -> Vocabulary:
    """Everything this installation understands (imports the plug-ins)."""
    from pymirror.core import registry

    return vocabulary_of(
        features={name: half.cls.Config for name, half in registry.layer_halves().items()},
        runtimes={name: registry.runtime(name).cls.Config for name in registry.runtime_names()},
    )


def vocabulary_of(features: Mapping[str, type], runtimes: Mapping[str, type]) -> Vocabulary:
    """The keys of `features` and `runtimes`, and mirrord's."""
    from pymirror.cli import mirrord_keys as mirrord
    from pymirror.core.config import Vocabulary

    return Vocabulary(
        features=features,
        runtimes=runtimes,
        absent=mirrord.ABSENT,
        paid=mirrord.PAID,
        ignored=mirrord.IGNORED,
        neutral=mirrord.NEUTRAL,
        absent_env=mirrord.ABSENT_ENV,
    )


def settings_of(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """The session's `core.config.Settings`; UserError and its kin for what is wrong."""
    from pymirror.core import configfile
    from pymirror.core.config import resolve

    file = options.get("config_file")
    if file == BARE:
        file = configfile.discover()
    elif file is None:
        file = variable("CONFIG_FILE", environ)
    return resolve(file, flags_of(options), environ, vocabulary())


def variable(name: str, environ: Mapping[str, str]) -> str | None:
    """PYMIRROR_<name>, else MIRRORD_<name>; an empty one does not count."""
    return environ.get(f"PYMIRROR_{name}") or environ.get(f"MIRRORD_{name}") or None


def fail(error: Exception) -> int:
    """Show an error of ours on stderr; the exit status that goes with it."""
    from pymirror.core.errors import PymirrorError

    hint = getattr(error, "hint", "")
    message = getattr(error, "message", None) or str(error)
    print(f"pymirror: error: {message}", file=sys.stderr)
    for line in filter(None, hint.splitlines()):
        print(f"  {line}", file=sys.stderr)
    return error.exit_status if isinstance(error, PymirrorError) else 125
