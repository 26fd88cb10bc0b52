// The services of the contract over any Connect transport, with a key, deadlines and safe retries.

import { Code, ConnectError, createClient, type Client, type Interceptor } from "@connectrpc/connect";
import type { Transport } from "@connectrpc/connect";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { MarketcalError } from "./errors.js";
import { AlertService, type WatchAlertsRequestSchema, type WatchAlertsResponse } from "./gen/marketcal/v1/alert_pb.js";
import { ForecastService } from "./gen/marketcal/v1/forecast_pb.js";
import { MarketService } from "./gen/marketcal/v1/market_pb.js";
import { ScoreboardService } from "./gen/marketcal/v1/scoreboard_pb.js";
import type { MessageInitShape } from "@bufbuild/protobuf";

/** Milliseconds that a unary call may take unless it says otherwise. */
export const DEFAULT_TIMEOUT_MS = 10_000;
const ATTEMPTS = 4;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** gRPC ends with CANCELLED what a server has not begun when it shuts down. */
const REPEATED = new Set([Code.Unavailable, Code.Canceled]);
const LONGEST_WATCH_PAUSE_MS = 30_000;
/** What may pass, whoever says it; a watch has no deadline of its own. */
const PASSING = new Set([Code.Unavailable, Code.DeadlineExceeded]);
/** What a lost connection looks like where no server of this platform gives a reason. */
const LOST = new Set([Code.Internal, Code.Unknown, Code.Canceled, Code.Aborted]);
const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** How a gateway is reached. */
export interface Options {
  /** `https://host:port`; plain `http` reaches loopback alone unless `insecure` is set. */
  readonly baseUrl: string;
  /** API key or JSON web token. */
  readonly key?: string;
  /** Send the key in clear to another machine. */
  readonly insecure?: boolean;
}

/** The services, one typed method per RPC. */
export interface Marketcal {
  readonly forecasts: Client<typeof ForecastService>;
  readonly scores: Client<typeof ScoreboardService>;
  readonly markets: Client<typeof MarketService>;
  readonly alerts: Client<typeof AlertService>;
  /**
   * Alerts as they come; goes on by itself after a lost connection, from where it was, until the
   * server ends the stream, the loop is left, or `signal` is aborted, which throws with
   * `Code.Canceled`.
   */
  watchAlerts(
    request: MessageInitShape<typeof WatchAlertsRequestSchema>,
    options?: WatchOptions,
  ): AsyncIterable<WatchAlertsResponse>;
}

/** How alerts are watched. */
export interface WatchOptions {
  /** Ends the watch, also while it waits to open its stream again. */
  readonly signal?: AbortSignal;
}

/** The services over `transport`. */
export function marketcal(transport: Transport): Marketcal {
  const alerts = createClient(AlertService, transport);
  return {
    forecasts: createClient(ForecastService, transport),
    scores: createClient(ScoreboardService, transport),
    markets: createClient(MarketService, transport),
    alerts,
    watchAlerts: (request, options = {}) => resumed(alerts, request, options),
  };
}

/** What every call passes through: the key, typed errors, retries. */
export function interceptors({ key }: Options): Interceptor[] {
  return [typedErrors, retries, authorization(key)];
}

/** Refuses an address to which the key would travel in clear. Returns the address. */
export function checkedUrl({ baseUrl, insecure }: Options): string {
  const url = new URL(baseUrl);
  if (url.protocol !== "https:" && !LOOPBACK.test(url.hostname) && !insecure) {
    throw new TypeError(`${baseUrl}: keys would travel in clear; use https, or set insecure`);
  }
  return baseUrl;
}

const typedErrors: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: typed(response.message) } : response;
  } catch (thrown) {
    throw MarketcalError.from(thrown);
  }
};

async function* typed<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (thrown) {
    throw MarketcalError.from(thrown);
  }
}

const retries: Interceptor = (next) => async (request) => {
  const repeatable = !request.stream && request.method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN;
  for (let attempt = 1; ; attempt++) {
    try {
      return await next(request);
    } catch (thrown) {
      const pause = repeatable && attempt < ATTEMPTS && !request.signal.aborted ? pauseAfter(thrown, attempt) : undefined;
      if (pause === undefined) throw thrown;
      await sleep(pause, request.signal);
    }
  }
};

/** Milliseconds to wait before a call is repeated; undefined where it must not be. */
function pauseAfter(thrown: unknown, attempt: number): number | undefined {
  const error = ConnectError.from(thrown);
  if (!REPEATED.has(error.code)) return undefined;
  const told = error.metadata.get("grpc-retry-pushback-ms");
  if (told !== null) return Number(told) >= 0 ? Number(told) : undefined;
  return Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempt);
}

function authorization(key: string | undefined): Interceptor {
  return (next) => (request) => {
    if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
    return next(request);
  };
}

async function* resumed(
  alerts: Client<typeof AlertService>,
  request: MessageInitShape<typeof WatchAlertsRequestSchema>,
  { signal }: WatchOptions,
): AsyncIterable<WatchAlertsResponse> {
  let resumeToken = request.resumeToken ?? "";
  let failures = 0;
  // Whoever leaves the loop early has left the stream too: it would go on, and keep Node alive.
  const leaving = new AbortController();
  const leave = () => leaving.abort(signal?.reason);
  signal?.addEventListener("abort", leave);
  if (signal?.aborted) leave();
  const options = { timeoutMs: 0, signal: leaving.signal };
  try {
    for (;;) {
      try {
        for await (const message of alerts.watchAlerts({ ...request, resumeToken }, options)) {
          failures = 0;
          resumeToken = message.resumeToken || resumeToken;
          // A message with a token alone is a place to go on from, and nothing for the caller.
          if (message.event.case !== undefined) yield message;
        }
        return;
      } catch (thrown) {
        const error = MarketcalError.from(thrown);
        if (signal?.aborted || !mayPass(error)) throw error;
        failures += 1;
        await sleep(pauseOfWatch(error, failures), signal).catch((reason) => {
          throw MarketcalError.from(reason);
        });
      }
    }
  } finally {
    signal?.removeEventListener("abort", leave);
    leave();
  }
}

/** Whether a stream may do better when it is opened again. */
function mayPass({ code, reason }: MarketcalError): boolean {
  return PASSING.has(code) || reason === "RATE_LIMITED" || (reason === "" && LOST.has(code));
}

/** Milliseconds until a stream is opened again: they double, half is left to chance, the server may ask for more. */
function pauseOfWatch(error: MarketcalError, failures: number): number {
  const longest = Math.min(LONGEST_WATCH_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures, 20));
  return Math.max(1000 * (error.retryAfter ?? 0), longest * (0.5 + 0.5 * Math.random()));
}

function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const abort = () => (clearTimeout(timer), reject(signal?.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", abort), resolve()), milliseconds);
    signal?.addEventListener("abort", abort, { once: true });
  });
}
