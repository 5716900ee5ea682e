// A consumer of actions without our library: Node 20 or newer, nothing to install.
//
//   firstfault keys show keys/keys.yaml --output json > keys.json
//   firstfault actions tail --local site --from-start --output json \
//     | node examples/consumer/consumer.mjs keys.json ledger.jsonl \
//     | firstfault actions answer - --local site --key keys/actuator-a.pem
//
// It reads an action a line (action.schema.json), and writes a result a line (result.schema.json).
// What every consumer owes an action, in the order it is owed: see `decide`.
import { createPublicKey, verify } from "node:crypto";
import { appendFileSync, existsSync, fsyncSync, openSync, readFileSync } from "node:fs";
import { createInterface } from "node:readline";

const [keysFile, ledgerFile, generation = "0"] = process.argv.slice(2);
const DER = Buffer.from("302a300506032b6570032100", "hex"); // Before the 32 bytes of a key.
const keys = new Map(
  JSON.parse(readFileSync(keysFile, "utf8"))
    .keys.filter((key) => key.may.includes("action"))
    .map((key) => {
      const der = Buffer.concat([DER, Buffer.from(key.public_key, "base64")]);
      return [key.key_id, createPublicKey({ key: der, format: "der", type: "spki" })];
    }),
);

// The ledger: a line for what began, and one for how it ended. It is on the disk before we act.
const known = new Map();
const highest = new Map();
const remember = (entry) => {
  known.set(entry.key, entry);
  for (const [what, number] of Object.entries(entry.seen ?? {}))
    highest.set(what, Math.max(number, highest.get(what) ?? 0));
};
if (existsSync(ledgerFile))
  for (const line of readFileSync(ledgerFile, "utf8").split("\n"))
    try {
      if (line) remember(JSON.parse(line));
    } catch {
      // The last line of a process that was killed while it wrote: nothing had been done yet.
    }
const ledger = openSync(ledgerFile, "a");
appendFileSync(ledger, "\n"); // Whatever was cut off ends here.
const write = (entry) => {
  appendFileSync(ledger, JSON.stringify(entry) + "\n");
  fsyncSync(ledger);
  remember(entry);
};

// A message stands in the log in its canonical form, so what is signed is the line without its
// signature: no number has to be written again as Python writes it.
function isSigned(line, action) {
  const [id, text] = (action.signature ?? "").split(":");
  const content = line.replace(`"signature":"${action.signature}",`, "");
  const covered = `["firstfault.signature.v1",${JSON.stringify(action.domain)},` +
    `${JSON.stringify(generation)},${content}]`;
  const key = keys.get(id);
  return Boolean(key) && verify(null, Buffer.from(covered), key, Buffer.from(text, "base64"));
}

function decide(action) {
  const before = known.get(action.idempotency_key);
  if (before?.state === "BEGUN") return { state: "UNKNOWN", proof: { reason: "begun before" } };
  if (before) return before;
  const refuse = (reason) => ({ state: "REJECTED", proof: { reason } });
  if (action.epoch < (highest.get(`epoch ${action.domain}`) ?? 0)) return refuse("stale_epoch");
  if (action.fence_token && action.fence_token < (highest.get(`token ${action.target}`) ?? 0))
    return refuse("stale_token");
  if (Date.now() > Date.parse(action.expires_at)) return refuse("expired");
  if (action.mode === "dry_run") return refuse("dry_run");
  if (action.preconditions.length) return refuse("precondition"); // Nobody here can tell.
  return null;
}

const verbs = {
  notify(action) {
    process.stderr.write(`${action.cause}\n`);
    return { told: "standard error" };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  let action;
  try {
    action = JSON.parse(line);
    if (!isSigned(line, action)) throw new Error("not signed by an owner of the log");
  } catch (error) {
    process.stderr.write(`refused: ${error.message}\n`);
    continue;
  }
  if (!Object.hasOwn(verbs, action.verb)) continue; // Another consumer's.
  const key = action.idempotency_key;
  const epoch = `epoch ${action.domain}`;
  let outcome = decide(action);
  if (!outcome) {
    const seen = { [epoch]: action.epoch, [`token ${action.target}`]: action.fence_token };
    write({ key, state: "BEGUN", seen });
    outcome = { state: "CONFIRMED", proof: await verbs[action.verb](action) };
    write({ key, ...outcome });
  }
  const { action_id, verb } = action;
  const { state, proof } = outcome;
  const result = { type: "result", action_id, idempotency_key: key, verb, state, proof };
  console.log(JSON.stringify({ ...result, epoch_seen: action.epoch }));
}
