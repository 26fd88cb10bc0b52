// Refusals as one class: what the server said of the reason, and when to come back.

import { ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  RequestInfoSchema,
  RetryInfoSchema,
} from "./gen/google/rpc/error_details_pb.js";

/** One field that is wrong. */
export interface FieldViolation {
  /** Full path of the field, for example `items[3].horizon_steps`. */
  readonly field: string;
  /** What is wrong with it. */
  readonly description: string;
}

/** A refused call: an error of Connect, whose `code`, `rawMessage` and `metadata` (headers) it has. */
export class MarketcalError extends ConnectError {
  /** Name of the published `ErrorReason` without its prefix; "" for a refusal by the transport. */
  readonly reason: string;
  /** Facts for programs. */
  readonly facts: Readonly<Record<string, string>>;
  /** Seconds after which a retry may succeed; undefined where a retry is pointless. */
  readonly retryAfter: number | undefined;
  /** Fields that are wrong. */
  readonly violations: readonly FieldViolation[];
  /** Id of the call, to quote. */
  readonly requestId: string;

  private constructor(error: ConnectError) {
    super(error.rawMessage, error.code, error.metadata, undefined, error.cause);
    this.details = error.details;
    const info = error.findDetails(ErrorInfoSchema)[0];
    const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
    const violations = error.findDetails(BadRequestSchema)[0]?.fieldViolations ?? [];
    this.reason = (info?.reason ?? "").replace(/^ERROR_REASON_/, "");
    this.facts = info?.metadata ?? {};
    this.retryAfter = delay && Number(delay.seconds) + delay.nanos / 1e9;
    this.violations = violations.map(({ field, description }) => ({ field, description }));
    this.requestId =
      error.findDetails(RequestInfoSchema)[0]?.requestId ?? error.metadata.get("x-request-id") ?? "";
  }

  /** What a thrown value says, with the details that the server sent. */
  static override from(thrown: unknown): MarketcalError {
    return thrown instanceof MarketcalError ? thrown : new MarketcalError(ConnectError.from(thrown));
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return Object.prototype.isPrototypeOf.call(MarketcalError.prototype, value as object);
  }
}
