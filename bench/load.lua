-- wrk: POST a chat completion. KIND=unique (each prompt another), long (unique, 500 characters), same.
local kind = os.getenv("KIND") or "unique"
local padding = kind == "long" and string.rep("Compare renting and buying a flat for a young family. ", 8) or ""
local counter, thread = 0, 0
function setup(t) thread = thread + 1; t:set("id", thread * 100000000) end
function request()
  if kind ~= "same" then counter = counter + 1 end
  local text = string.format("Explain what a black hole is in one sentence, please, number %d. %s", id + counter, padding)
  return wrk.format("POST", "/v1/chat/completions", { ["Content-Type"] = "application/json", ["Host"] = "x" },
    '{"model":"auto","messages":[{"role":"user","content":"' .. text .. '"}]}')
end
function done(summary, latency)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('RESULT {"requests":%d,"errors":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, bad, summary.duration / 1e6, latency:percentile(50), latency:percentile(99)))
end
