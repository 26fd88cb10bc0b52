// For browsers: gRPC-Web, through Envoy.

import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { checkedUrl, DEFAULT_TIMEOUT_MS, interceptors, marketcal, type Marketcal, type Options } from "./client.js";

/** The services behind the Envoy at `options.baseUrl`. */
export function connect(options: Options): Marketcal {
  return marketcal(
    createGrpcWebTransport({
      baseUrl: checkedUrl(options),
      interceptors: interceptors(options),
      defaultTimeoutMs: DEFAULT_TIMEOUT_MS,
    }),
  );
}
