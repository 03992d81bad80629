"""What Envoy is told, as plain values: bootstrap, clusters and routes of a route table.

Invariants:
    * Pure: the same table gives the same bytes.
    * Each cluster's name tells what it holds (slot, or canary and stable), so two tables that
      differ in weights only have the same clusters, and moving traffic is one small file.
    * Every route of a model carries its model, side and slot as metadata; each endpoint its slot
      and version.  The access log is made of those, never of what a client sent.

Sides are routes of their own rather than weighted clusters of one route, because retry and
timeout rules stand on routes, and stable must not be held to the canary's.

This module writes no file; see ``envoy``.

Example:
    >>> routes(RouteTable(revision=1), hosts=())["name"]
    'stemma'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from stemma.delivery.planes.paths import (
    EVERY_HOST,
    LOOPBACK_HOSTS,
    NOT_RUNNING,
    REFUSED_HOST,
    REFUSED_ORIGIN,
    SLOT_HEADER,
    UNKNOWN_MODEL_PATTERN,
    model_pattern,
    origin_pattern,
    unknown_model,
    unknown_slot,
)
from stemma.domain.routing import ALL_TRAFFIC_BP, NOT_READY_HEADER, Endpoint, ModelRoute, RouteTable

Json: TypeAlias = dict[str, object]

ROUTES_NAME: Final = "stemma"
STATISTICS_PREFIX: Final = "user"
CONTROL_CLUSTER: Final = "control"

_API: Final = "type.googleapis.com/envoy"
_CLUSTER_TYPE: Final = f"{_API}.config.cluster.v3.Cluster"
_ROUTES_TYPE: Final = f"{_API}.config.route.v3.RouteConfiguration"
_CONNECT_TIMEOUT: Final = "0.25s"
# Model processes hang up after 5 idle seconds or more; whoever hangs up first must be Envoy.
_IDLE_TIMEOUT: Final = "3s"
# Five minutes unless said otherwise; what is written behind an upload may take longer.
_CONTROL_IDLE_TIMEOUT: Final = "3600s"
# Inference is a pure function, so asking again is safe, whatever went wrong.
_CANARY_RETRIES: Final = "5xx,reset,connect-failure,refused-stream"
_STABLE_RETRIES: Final = "reset,connect-failure,refused-stream,retriable-headers"
# A body up to this size is kept until its request is answered, to be sent again.
_RETRY_BUFFER_BYTES: Final = 4 * 1024 * 1024
# Envoy's own limits (1024 requests, 3 retries at once) would fail users long before a model does.
_GENEROUS: Final = 1_000_000
_CONTROL_MARK: Final = "x-stemma-control"

_LOG_FIELDS: Final = {
    "t": "%START_TIME(%s%3f)%",
    "m": "%METADATA(ROUTE:stemma:model)%",
    "g": "%METADATA(ROUTE:stemma:side)%",
    "w": "%METADATA(ROUTE:stemma:slot)%",
    "a": "%METADATA(UPSTREAM_HOST:stemma:slot)%",
    "v": "%METADATA(UPSTREAM_HOST:stemma:version)%",
    "s": "%RESPONSE_CODE%",
    "d": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "n": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "f": "%RESPONSE_FLAGS%",
    "i": "%REQ(X-REQUEST-ID)%",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvoySettings:
    """Where one Envoy listens, and which files it reads and writes.

    Attributes:
        host: Address it listens at.
        port: Port it listens at.
        admin_socket: Unix socket of its administration.
        clusters_file: Clusters, replaced by renaming.
        routes_file: Routes, replaced by renaming.
        access_log: One line per request.
    """

    host: str
    port: int
    admin_socket: str
    clusters_file: str
    routes_file: str
    access_log: str


def discovery(version: str, resources: Sequence[Json]) -> Json:
    """Return the content of a file that Envoy watches."""
    return {"version_info": version, "resources": list(resources)}


def clusters(table: RouteTable) -> dict[str, Json]:
    """Return each cluster that the table needs, by name."""
    found: dict[str, Json] = {}
    for route in table.models:
        for endpoint in (route.stable, route.canary, route.probe):
            if endpoint is not None:
                found[_slot_cluster(endpoint)] = _cluster(
                    _slot_cluster(endpoint), endpoint.sockets, _endpoint_metadata(endpoint)
                )
        if route.canary is not None:
            name = _pair_cluster(route.canary, route.stable)
            found[name] = _aggregate(
                name, [_slot_cluster(route.canary), _slot_cluster(route.stable)]
            )
    if table.control_socket:
        found[CONTROL_CLUSTER] = _cluster(CONTROL_CLUSTER, (table.control_socket,), {})
    return dict(sorted(found.items()))


def routes(table: RouteTable, *, hosts: Sequence[str]) -> Json:
    """Return the route configuration of the table.

    Args:
        table: Where requests go.
        hosts: Names beside loopback that clients may call this server by.
    """
    local = list(dict.fromkeys((*LOOPBACK_HOSTS, *hosts)))
    refused = [
        {
            "name": "refused",
            "domains": ["*"],
            "routes": [_answer({"prefix": "/"}, 403, REFUSED_HOST)],
        }
    ]
    return {
        "@type": _ROUTES_TYPE,
        "name": ROUTES_NAME,
        "validate_clusters": True,
        "ignore_port_in_host_matching": True,
        "max_direct_response_body_size_bytes": 64 * 1024,
        "virtual_hosts": [
            {
                "name": "local",
                "domains": local,
                "routes": list(_local_routes(table, hosts)),
            },
            *([] if EVERY_HOST in local else refused),
        ],
    }


def bootstrap(settings: EnvoySettings) -> Json:
    """Return what Envoy is started with: one listener, and where to read the rest."""
    return {
        "node": {"id": "stemma", "cluster": "stemma"},
        "admin": {"address": {"pipe": {"path": settings.admin_socket, "mode": 0o600}}},
        # One pattern holds all paths of a model; Envoy's limit is half a name too small for it.
        "layered_runtime": {
            "layers": [
                {
                    "name": "static",
                    "static_layer": {"re2.max_program_size.error_level": 1_000_000},
                }
            ]
        },
        "dynamic_resources": {"cds_config": _watched(settings.clusters_file)},
        "static_resources": {
            "listeners": [
                {
                    "name": STATISTICS_PREFIX,
                    "address": {
                        "socket_address": {
                            "address": settings.host,
                            "port_value": settings.port,
                        }
                    },
                    # Shared, a second server would take half of the connections unnoticed.
                    "enable_reuse_port": False,
                    "connection_balance_config": {"exact_balance": {}},
                    "filter_chains": [
                        {
                            "filters": [
                                {
                                    "name": "http",
                                    "typed_config": _connection_manager(settings),
                                }
                            ]
                        }
                    ],
                }
            ]
        },
    }


def _local_routes(table: RouteTable, hosts: Sequence[str]) -> Iterator[Json]:
    foreign_origin = [
        {"name": "origin", "present_match": True},
        {
            "name": "origin",
            "string_match": {"safe_regex": {"regex": origin_pattern(hosts)}},
            "invert_match": True,
        },
    ]
    yield _answer({"prefix": "/", "headers": foreign_origin}, 403, REFUSED_ORIGIN)
    for number, route in enumerate(table.models):
        yield from _model_routes(route, is_default=number == 0)
    names = [route.model for route in table.models]
    yield _answer(
        {"safe_regex": {"regex": UNKNOWN_MODEL_PATTERN}},
        404,
        unknown_model(names),
    )
    if table.control_socket:
        yield {
            "match": {"prefix": "/"},
            # No buffer and no retry: an upload of gigabytes passes through as it comes.
            "route": {
                "cluster": CONTROL_CLUSTER,
                "timeout": "0s",
                "idle_timeout": _CONTROL_IDLE_TIMEOUT,
            },
            "request_headers_to_add": [_header(_CONTROL_MARK, "1")],
        }
    else:
        yield _answer({"prefix": "/"}, 503, NOT_RUNNING)


def _model_routes(route: ModelRoute, *, is_default: bool) -> Iterator[Json]:
    match: Json = {"safe_regex": {"regex": model_pattern(route.model, is_default=is_default)}}
    names_slot: Json = {"name": SLOT_HEADER}
    if route.probe is not None:
        names_probe = {**names_slot, "string_match": {"exact": route.probe.slot}}
        yield _forward(
            route,
            route.probe,
            side="probe",
            match={**match, "headers": [names_probe]},
            cluster=_slot_cluster(route.probe),
        )
    # Sent on, it would say something about a slot that it never reached.
    yield _answer(
        {**match, "headers": [{**names_slot, "present_match": True}]},
        404,
        unknown_slot(route.model),
    )
    if route.canary is not None and route.canary_weight_bp:
        share = {"numerator": route.canary_weight_bp, "denominator": "TEN_THOUSAND"}
        is_all = route.canary_weight_bp == ALL_TRAFFIC_BP
        yield _forward(
            route,
            route.canary,
            side="canary",
            match=match if is_all else {**match, "runtime_fraction": {"default_value": share}},
            cluster=_pair_cluster(route.canary, route.stable),
        )
    yield _forward(
        route, route.stable, side="stable", match=match, cluster=_slot_cluster(route.stable)
    )


def _forward(
    route: ModelRoute, endpoint: Endpoint, *, side: str, match: Json, cluster: str
) -> Json:
    retry: Json = {
        "retry_on": _CANARY_RETRIES if side == "canary" else _STABLE_RETRIES,
        "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.005s"},
    }
    if side == "canary":
        # A canary that hangs leaves stable the other half of the time.
        retry["per_try_timeout"] = _seconds(route.timeout_seconds / 2)
        retry["retry_priority"] = {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": f"{_API}.extensions.retry.priority.previous_priorities.v3"
                ".PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        }
    else:
        # A replica that was restarted listens before it has loaded.
        retry["retriable_headers"] = [{"name": NOT_READY_HEADER, "present_match": True}]
        retry["host_selection_retry_max_attempts"] = 3
        retry["retry_host_predicate"] = [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": f"{_API}.extensions.retry.host.previous_hosts.v3"
                    ".PreviousHostsPredicate"
                },
            }
        ]
    labels = {"model": route.model, "side": side, "slot": endpoint.slot}
    return {
        "match": match,
        "metadata": {"filter_metadata": {"stemma": labels}},
        "request_body_buffer_limit": _RETRY_BUFFER_BYTES,
        "response_headers_to_add": [
            _header("x-stemma-version", "%METADATA(UPSTREAM_HOST:stemma:version)%")
        ],
        "route": {
            "cluster": cluster,
            "timeout": _seconds(route.timeout_seconds),
            # Five minutes unless said otherwise, which would cut short what a route allows.
            "idle_timeout": _seconds(max(300.0, route.timeout_seconds + 60)),
            "retry_policy": retry,
        },
    }


def _answer(match: Json, status: int, text: str) -> Json:
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": text}},
    }


def _cluster(name: str, sockets: Sequence[str], metadata: Mapping[str, str]) -> Json:
    endpoints = [
        {
            "endpoint": {"address": {"pipe": {"path": path}}},
            "metadata": {"filter_metadata": {"stemma": dict(metadata)}},
        }
        for path in sockets
    ]
    return {
        "@type": _CLUSTER_TYPE,
        "name": name,
        "type": "STATIC",
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": "ROUND_ROBIN",
        "circuit_breakers": _circuit_breakers(),
        # Nobody is declared unhealthy behind our back: a slot that fails is the judge's business.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_API}.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": _IDLE_TIMEOUT},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": endpoints}],
        },
    }


def _aggregate(name: str, members: Sequence[str]) -> Json:
    return {
        "@type": _CLUSTER_TYPE,
        "name": name,
        "connect_timeout": _CONNECT_TIMEOUT,
        "lb_policy": "CLUSTER_PROVIDED",
        "circuit_breakers": _circuit_breakers(),
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": f"{_API}.extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": list(members),
            },
        },
    }


def _circuit_breakers() -> Json:
    limits = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(limits, _GENEROUS)]}


def _connection_manager(settings: EnvoySettings) -> Json:
    return {
        "@type": f"{_API}.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": STATISTICS_PREFIX,
        "rds": {
            "route_config_name": ROUTES_NAME,
            "config_source": _watched(
                settings.routes_file, settings.routes_file.rpartition("/")[0]
            ),
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": f"{_API}.extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            }
        ],
        "access_log": [
            {
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": f"{_API}.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": settings.access_log,
                    "log_format": {"json_format": _LOG_FIELDS, "omit_empty_values": True},
                },
            }
        ],
        "local_reply_config": _local_replies(),
        # Clients are strangers, even on this machine: what they say in x-envoy-* is dropped.
        "use_remote_address": True,
        "internal_address_config": {
            "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
        },
        "normalize_path": True,
        "merge_slashes": True,
        "generate_request_id": True,
        "preserve_external_request_id": True,
        "always_set_request_id_in_response": True,
        "request_id_extension": {
            "typed_config": {
                "@type": f"{_API}.extensions.request_id.uuid.v3.UuidRequestIdConfig",
                "pack_trace_reason": False,
            }
        },
        "request_headers_timeout": "10s",
        "http_protocol_options": {"accept_http_10": True},
        "server_header_transformation": "PASS_THROUGH",
    }


def _local_replies() -> Json:
    """Return how Envoy words what it answers itself: always JSON."""
    no_control = {
        "and_filter": {
            "filters": [
                {
                    "status_code_filter": {
                        "comparison": {
                            "op": "EQ",
                            "value": {"default_value": 503, "runtime_key": "stemma.unused"},
                        }
                    }
                },
                {"header_filter": {"header": {"name": _CONTROL_MARK, "present_match": True}}},
            ]
        }
    }
    return {
        "mappers": [
            {"filter": no_control, "body_format_override": {"json_format": {"error": NOT_RUNNING}}}
        ],
        "body_format": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
    }


def _watched(path: str, folder: str = "") -> Json:
    # Envoy takes the file anew when something is renamed to this very path, or into ``folder``.
    source: Json = {"path": path}
    if folder:
        source["watched_directory"] = {"path": folder}
    return {"resource_api_version": "V3", "path_config_source": source}


def _header(name: str, value: str) -> Json:
    return {
        "header": {"key": name, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _slot_cluster(endpoint: Endpoint) -> str:
    return f"slot/{endpoint.slot}"


def _pair_cluster(canary: Endpoint, stable: Endpoint) -> str:
    return f"pair/{canary.slot}/{stable.slot}"


def _endpoint_metadata(endpoint: Endpoint) -> dict[str, str]:
    return {"slot": endpoint.slot, "version": endpoint.version}


def _seconds(value: float) -> str:
    return f"{value:.3f}s"
