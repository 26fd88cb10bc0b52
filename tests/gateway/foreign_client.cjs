// A client that shares no code with us: reads the contract as a descriptor set, and calls Forecast.
// Usage: node foreign_client.cjs IMAGE ADDRESS KEY MODULES; prints one JSON object per call.
"use strict";
const path = require("node:path");
const fs = require("node:fs");
const [image, address, key, modules] = process.argv.slice(2);
const from = (name) => require(path.join(modules, "node_modules", name));
const grpc = from("@grpc/grpc-js");
const loader = from("@grpc/proto-loader");

const definition = loader.loadFileDescriptorSetFromBuffer(fs.readFileSync(image), { keepCase: true });
const { ForecastService } = grpc.loadPackageDefinition(definition).marketcal.v1;
const client = new ForecastService(address, grpc.credentials.createInsecure());

function forecast(request, withKey) {
  const metadata = new grpc.Metadata();
  metadata.set("authorization", `Bearer ${withKey}`);
  return new Promise((resolve) => {
    const deadline = Date.now() + 20_000;
    client.Forecast(request, metadata, { deadline }, (error, answer) => {
      if (!error) return resolve({ code: 0, paths: answer.quantile_paths, meta: answer.meta });
      const details = error.metadata.get("grpc-status-details-bin")[0];
      resolve({
        code: error.code,
        message: error.details,
        details: details ? details.toString("base64") : "",
        challenge: error.metadata.get("www-authenticate"),
      });
    });
  });
}

(async () => {
  const values = Array.from({ length: 60 }, (_, i) => 0.5 + 0.01 * (i % 5));
  const good = { market_id: "polymarket:1", values };
  const calls = [
    await forecast(good, key),
    await forecast({ ...good, values: [0.5, 1.5] }, key),
    await forecast(good, "mk_not_a_key"),
  ];
  for (const call of calls) console.log(JSON.stringify(call));
  client.close();
})();
