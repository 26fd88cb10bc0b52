// For Node: gRPC over HTTP/2, straight to a gateway.

import { createGrpcTransport } from "@connectrpc/connect-node";
import { checkedUrl, DEFAULT_TIMEOUT_MS, interceptors, marketcal, type Marketcal, type Options } from "./client.js";

/** The services of the gateway at `options.baseUrl`. */
export function connect(options: Options): Marketcal {
  return marketcal(
    createGrpcTransport({
      baseUrl: checkedUrl(options),
      interceptors: interceptors(options),
      defaultTimeoutMs: DEFAULT_TIMEOUT_MS,
    }),
  );
}
