"""What deploy/ holds is read as its tools would read it: no container engine is needed, and none is asked."""

from __future__ import annotations

import asyncio
import configparser
import re
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

import massive_lab.config as upstream_config
import massive_lab.gateway.config as gateway_config
from massive_lab.cli.main import build_parser
from massive_lab.gateway.config import read_gateway_settings
from massive_lab.gateway.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = {"MASSIVE_API_KEY", "MASSIVE_GATEWAY_SECRET", "MASSIVE_GATEWAY_TOKENS", "MASSIVE_PROXY_TOKEN"}
VARIABLE = re.compile(r"\b(?:MASSIVE_(?!LAB_CACHE)[A-Z_]+|WEB_ORIGIN)\b")
TABLE_ROW = re.compile(r"^(MASSIVE_\w+|WEB_ORIGIN)\s", re.MULTILINE)
DRAIN_S = 25.0


def known() -> set[str]:
    """Every variable that the gateway or its upstream's settings read."""
    text = Path(gateway_config.__file__).read_text("utf-8") + (upstream_config.__doc__ or "")
    return set(VARIABLE.findall(text))


def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def service() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "massive-lab-gateway.service").read_text("utf-8"))
    return parser


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, lines joined and comments gone."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1]) for line in lines]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for word, rest in instructions():
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


# all files


def files() -> list[Path]:
    return sorted(path for path in DEPLOY.iterdir() if path.is_file())


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_every_variable_named_is_one_that_is_read(path: Path) -> None:
    assert set(VARIABLE.findall(path.read_text("utf-8"))) <= known()


@pytest.mark.parametrize("path", files(), ids=lambda path: path.name)
def test_no_file_holds_a_secret(path: Path) -> None:
    text = path.read_text("utf-8")
    for name in SECRETS:
        for value in re.findall(rf"(?<![A-Z_]){name}\s*[:=][ \t]*(\S+)", text):
            assert value.startswith(("${", "...")), f"{name} has a value in {path.name}"
    # Nothing long that mixes letters and digits, which names and addresses of these files do not.
    assert not re.search(r"\b(?=[A-Za-z0-9_-]*\d)(?=[A-Za-z0-9_-]*[a-z])[A-Za-z0-9_-]{24,}\b", text)
    assert not path.stat().st_mode & (stat.S_IXUSR | stat.S_IWOTH)


# the image


def test_every_stage_begins_with_a_version() -> None:
    bases = [rest for word, rest in instructions() if word == "FROM"]
    assert bases
    for base in bases:
        assert re.match(r"python:3\.\d+-slim-\w+( AS \w+)?$", base), base


def test_what_is_installed_is_pinned_by_the_constraints() -> None:
    installs = [rest for word, rest in instructions() if word == "RUN" and "pip" in rest]
    assert installs
    for line in installs:
        for command in re.findall(r"pip install [^&]*", line):
            assert "--constraint constraints.txt" in command
    copied = " ".join(rest for word, rest in instructions() if word == "COPY")
    assert "constraints.txt" in copied
    assert not [word for word, _ in instructions() if word == "ADD"]
    # Nothing from a distribution's archive, whose versions nobody pins here.
    assert not re.search(r"\b(apt|apt-get|apk|curl|wget)\b", (DEPLOY / "Dockerfile").read_text("utf-8"))


def test_all_that_is_copied_is_there_and_let_through() -> None:
    allowed = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    sources = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
    assert {source.removeprefix("./") for source in sources} == allowed
    assert (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()[1] == "*"


def test_it_runs_as_a_user_that_is_not_root_and_by_a_number() -> None:
    users = [rest for word, rest in stages()[-1] if word == "USER"]
    assert len(users) == 1
    uid, gid = users[0].split(":")
    assert int(uid) > 0 < int(gid)
    words = [word for word, _ in stages()[-1]]
    assert "RUN" not in words[words.index("USER") :]


def test_its_command_is_one_of_ours_and_its_ports_are_the_settings() -> None:
    last = dict(stages()[-1])
    entry, command = yaml.safe_load(last["ENTRYPOINT"]), yaml.safe_load(last["CMD"])
    assert entry == ["massive-lab"]
    options = build_parser().parse_args(command)
    assert (options.command, options.log) == ("gateway", "json")
    settings = read_gateway_settings(environment({}), dotenv=Path("none"))
    assert last["EXPOSE"].split() == [str(settings.port), str(settings.admin_port)]
    assert f"127.0.0.1:{settings.admin_port}/healthz" in last["HEALTHCHECK"]
    assert last["STOPSIGNAL"] == "SIGTERM"


# compose


def environment(given: dict[str, str]) -> dict[str, str]:
    """What a container sees: the image's variables, then those of compose with its defaults taken and secrets given."""
    of_image = " ".join(rest for word, rest in stages()[-1] if word == "ENV")
    seen = dict(part.split("=", 1) for part in shlex.split(of_image) if "=" in part)
    for name, value in compose()["services"]["gateway"]["environment"].items():
        match = re.fullmatch(r"\$\{(\w+):([-?])([^}]*)\}", value)
        seen[name] = value if match is None else given.get(match[1], match[3] if match[2] == "-" else "")
    made_up = {"MASSIVE_API_KEY": "k" * 20, "MASSIVE_GATEWAY_SECRET": "s" * 40}
    seen = {**seen, **{name: text for name, text in made_up.items() if not seen.get(name)}}
    # The mounted file is not here.
    del seen["MASSIVE_GATEWAY_TOKENS_FILE"]
    return {**seen, "MASSIVE_GATEWAY_TOKENS": "desk:" + "t" * 16}


def test_compose_is_gateway_bus_and_metrics() -> None:
    assert set(compose()["services"]) == {"gateway", "nats", "prometheus"}
    for name, each in compose()["services"].items():
        assert each["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in each["security_opt"], name
        assert set(each["networks"]) <= set(compose()["networks"]), name
        assert "privileged" not in each, name


def test_images_of_others_have_a_version() -> None:
    for name in ("nats", "prometheus"):
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", compose()["services"][name]["image"])


def test_the_gateway_starts_with_what_compose_gives_it() -> None:
    settings = read_gateway_settings(environment({}), dotenv=Path("none"))
    assert (settings.host, settings.admin_host) == ("0.0.0.0", "0.0.0.0")
    assert settings == read_gateway_settings(
        {
            "MASSIVE_API_KEY": "k" * 20,
            "MASSIVE_GATEWAY_SECRET": "s" * 40,
            "MASSIVE_GATEWAY_TOKENS": "desk:" + "t" * 16,
            "MASSIVE_GATEWAY_HOST": "0.0.0.0",
            "MASSIVE_GATEWAY_ADMIN_HOST": "0.0.0.0",
        },
        dotenv=Path("none"),
    )


def test_defaults_of_compose_do_not_override_what_is_given() -> None:
    given = {"WEB_ORIGIN": "https://desk.example", "MASSIVE_GATEWAY_CALLS_PER_MINUTE": "7"}
    settings = read_gateway_settings(environment(given), dotenv=Path("none"))
    assert (settings.web_origins, settings.calls_per_minute_token) == (("https://desk.example",), 7)


def test_secrets_of_compose_must_be_given_and_the_tokens_are_a_mounted_file() -> None:
    gateway = compose()["services"]["gateway"]
    for name in ("MASSIVE_API_KEY", "MASSIVE_GATEWAY_SECRET"):
        assert gateway["environment"][name].startswith(f"${{{name}:?")
    assert "MASSIVE_GATEWAY_TOKENS" not in gateway["environment"]
    assert gateway["environment"]["MASSIVE_GATEWAY_TOKENS_FILE"] == f"/run/secrets/{gateway['secrets'][0]}"
    assert set(gateway["secrets"]) == set(compose()["secrets"])


def test_commands_of_compose_are_known_and_name_services_that_are_there() -> None:
    gateway = compose()["services"]["gateway"]
    options, rest = build_parser().parse_known_args(gateway["command"])
    bus = ["--bus", "nats://nats:4222"]
    assert gateway["command"][-2:] == bus
    assert (rest, options.bus) == ([], bus[1])
    assert options.command == "gateway"
    assert set(gateway["depends_on"]) == {"nats"}
    assert "--jetstream" in compose()["services"]["nats"]["command"]
    assert set(gateway["networks"]) & set(compose()["services"]["nats"]["networks"]) == {"bus"}


def test_the_bus_is_reached_by_nobody_else_and_no_port_is_open_to_the_world() -> None:
    services = compose()["services"]
    assert compose()["networks"]["bus"] == {"internal": True}
    assert "ports" not in services["nats"]
    for each in services.values():
        for port in each.get("ports", []):
            assert port.startswith("127.0.0.1:")
    assert str(read_gateway_settings(environment({}), dotenv=Path("none")).admin_port) not in str(services["gateway"]["ports"])


def test_a_container_is_given_longer_than_the_gateway_drains() -> None:
    settings = read_gateway_settings(environment({}), dotenv=Path("none"))
    assert settings.drain_s == DRAIN_S
    assert float(compose()["services"]["gateway"]["stop_grace_period"].removesuffix("s")) > settings.drain_s
    assert float(service()["Service"]["TimeoutStopSec"]) > settings.drain_s


# metrics


def test_prometheus_asks_every_replica_at_its_admin_port() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    settings = read_gateway_settings(environment({}), dotenv=Path("none"))
    assert (found["names"], found["type"], found["port"]) == (["gateway"], "A", settings.admin_port)
    mounted = " ".join(compose()["services"]["prometheus"]["volumes"])
    for name in ("prometheus.yml", *config["rule_files"]):
        assert (DEPLOY / name).is_file()
        assert f"./{name}:/etc/prometheus/{name}:ro" in mounted


def test_alerts_name_metrics_and_labels_that_there_are() -> None:
    metrics = Metrics()
    kinds = {sample.name: set(sample.labels) for family in metrics.registry.collect() for sample in family.samples}
    labels = {name: set(family._labelnames) for family in vars(metrics).values() if hasattr(family, "_labelnames")
              for name in (f"{family._name}_total",)}  # fmt: skip
    rules = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text("utf-8"))["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 0
    for rule in rules:
        expression = rule["expr"].replace('job="massive_gateway"', "")
        for name, matchers in re.findall(r"\b(massive_gateway_\w+)(?:\{([^}]*)\})?", expression):
            assert name in labels or name in kinds, name
            assert set(re.findall(r"(\w+)=~?\"", matchers)) <= labels.get(name, kinds.get(name, set())), name
        assert rule["annotations"]["summary"].endswith(".")


# systemd


def test_the_unit_runs_commands_of_ours_and_does_not_repeat_wrong_settings() -> None:
    unit = service()["Service"]
    for line in (unit["ExecStart"], unit["ExecStartPre"]):
        program, *arguments = shlex.split(line)
        assert program.endswith("/bin/massive-lab")
        assert build_parser().parse_args(arguments).command == "gateway"
    assert build_parser().parse_args(shlex.split(unit["ExecStartPre"])[1:]).check is True
    assert unit["RestartPreventExitStatus"] == "2"
    assert unit["DynamicUser"] == "yes"
    assert "User" not in unit


# the page


def page() -> str:
    return (ROOT / "docs" / "gateway.md").read_text("utf-8")


def test_the_page_lists_every_variable_of_the_gateway_and_no_other() -> None:
    of_code = set(TABLE_ROW.findall(gateway_config.__doc__ or ""))
    of_page = re.findall(r"^\| `(MASSIVE_\w+|WEB_ORIGIN)` \|", page(), re.MULTILINE)
    upstream = {"MASSIVE_API_KEY", "MASSIVE_REST_URL", "MASSIVE_WS_URL", "MASSIVE_ENV"}
    assert len(of_page) == len(set(of_page))
    assert set(of_page) == of_code | upstream
    assert set(VARIABLE.findall(page())) <= known() | {"MASSIVE_PROXY_TOKEN"}


def test_defaults_on_the_page_are_those_of_the_settings() -> None:
    settings = read_gateway_settings(
        {"MASSIVE_API_KEY": "k", "MASSIVE_GATEWAY_SECRET": "s" * 40, "MASSIVE_GATEWAY_TOKENS": "desk:" + "t" * 16},
        dotenv=Path("none"),
    )
    assert settings.calls_per_minute_token == upstream_config.GATEWAY_CALLS_PER_MINUTE
    for name, value in (
        ("HOST", settings.host), ("PORT", settings.port), ("ADMIN_HOST", settings.admin_host),
        ("ADMIN_PORT", settings.admin_port), ("CALLS_PER_MINUTE", settings.calls_per_minute_token),
        ("CALLS_PER_MINUTE_TOTAL", settings.calls_per_minute_total),
    ):  # fmt: skip
        assert re.search(rf"^\| `MASSIVE_GATEWAY_{name}` \|[^|]*\| `{re.escape(str(value))}` \|$", page(), re.MULTILINE), name


def test_the_page_shows_tokens_that_the_gateway_reads(tmp_path: Path) -> None:
    from massive_lab.gateway.tokenfile import read_token_file

    (example,) = re.findall(r"```toml\n(.*?)```", page(), re.DOTALL)
    path = tmp_path / "tokens.toml"
    path.write_text(example.replace("<desk>", "d" * 32).replace("<old>", "o" * 32).replace("<new>", "n" * 32))
    rules = read_token_file(path)
    assert {rule.name for rule in rules} == {"desk", "research"}


def test_every_command_on_the_page_is_one_of_ours() -> None:
    blocks = re.findall(r"```console\n(.*?)```", page(), re.DOTALL)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ massive-lab")]
    assert commands
    for command in commands:
        build_parser().parse_args(shlex.split(command)[1:])


def test_every_file_the_page_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page()):
        if not target.startswith("https://"):
            assert (ROOT / "docs" / target).resolve().exists(), target


def test_metrics_on_the_page_are_there() -> None:
    from massive_lab.config import Secret, Settings
    from massive_lab.gateway.app import Gateway

    settings = read_gateway_settings(environment({}), dotenv=Path("none"))

    async def text() -> str:
        gateway = Gateway(settings, Settings(Secret("k")))
        try:
            gateway.metrics.socket("closed", "1008")
            return gateway.metrics.text()
        finally:
            await gateway.close()

    told = asyncio.run(text())
    named = set(re.findall(r"\b(?:massive_gateway|process)_\w+(?:\{[^}]*\})?", page()))
    assert len(named) >= 3
    for name in named:
        assert re.search(rf"^{re.escape(name)}[ {{]", told, re.MULTILINE), name
