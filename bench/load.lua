-- wrk: POST a chat completion. KIND: short (100 characters, each prompt another), long (500, each another), same;
-- messages: as short, but at the Anthropic door, so that both ways are translated.
-- SALT keeps two runs from sending the same prompts, which the cache would answer.
local kind, salt = os.getenv("KIND") or "short", os.getenv("SALT") or ""
local size = kind == "long" and 500 or 100
local counter = 0
local filler = string.rep("Compare renting and buying a flat for a young family. ", 9)
function request()
  if kind ~= "same" then counter = counter + 1 end
  local text = string.format("Explain what a black hole is in one sentence, number %s.%d. %s", salt, counter, filler)
  local path = kind == "messages" and "/v1/messages" or "/v1/chat/completions"
  return wrk.format("POST", path, { ["Content-Type"] = "application/json", ["Host"] = "x" },
    '{"model":"auto","max_tokens":512,"messages":[{"role":"user","content":"' .. text:sub(1, size) .. '"}]}')
end
function done(summary, latency)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format('RESULT {"requests":%d,"errors":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d}\n',
    summary.requests, bad, summary.duration / 1e6, latency:percentile(50), latency:percentile(99)))
end
