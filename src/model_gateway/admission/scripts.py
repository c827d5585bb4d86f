"""The scripts that Redis runs for redis.py, each as one step that nothing comes between.

A window is a hash of amounts by slice (a tenth of a second)
with their sum as `sum`, and a list of its slices in order. A slice counts until 60 s after its last moment: no 60
seconds ever hold more than the limit.

What a gateway was not told in time it tells again, and the first question may still come through later than that: who
has been counted is remembered by name, so that both together count once.
"""

from __future__ import annotations

from typing import Final

from model_gateway.admission.asking import Script

PARTS: Final = ("places", "requests", "requests:log", "tokens", "tokens:log", "counted")
"""Of a key's name in Redis, in the order of KEYS."""

_WINDOW: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local slice = math.floor(now * 10)

local function forget(hash, log)
  local sum = tonumber(redis.call('HGET', hash, 'sum') or '0')
  while true do
    local first = redis.call('LINDEX', log, 0)
    if not first or slice < tonumber(first) + 601 then return sum end
    local amount = tonumber(redis.call('HGET', hash, first) or '0')
    redis.call('HDEL', hash, first)
    redis.call('LPOP', log)
    sum = sum - amount
    redis.call('HSET', hash, 'sum', sum)
  end
end

local function add(hash, log, amount)
  if redis.call('HINCRBY', hash, slice, amount) == amount then
    local last = redis.call('LINDEX', log, -1)
    if last ~= tostring(slice) then redis.call('RPUSH', log, slice) end
  end
  redis.call('HINCRBY', hash, 'sum', amount)
  redis.call('PEXPIRE', hash, 130000)
  redis.call('PEXPIRE', log, 130000)
end

local function is_counted(who) return redis.call('ZSCORE', KEYS[6], who) end

local function note_counted(who)
  redis.call('ZADD', KEYS[6], now * 1000 + 60000, who)
  redis.call('ZREMRANGEBYSCORE', KEYS[6], '-inf', now * 1000)
  redis.call('PEXPIRE', KEYS[6], 61000)
end

local function count_owed(first)
  for at = first, #ARGV do
    if not is_counted(ARGV[at]) then
      note_counted(ARGV[at])
      add(KEYS[2], KEYS[3], 1)
    end
  end
end

local function fits_in(hash, log, excess)
  for _, each in ipairs(redis.call('LRANGE', log, 0, -1)) do
    excess = excess - tonumber(redis.call('HGET', hash, each) or '0')
    if excess <= 0 then return (tonumber(each) + 601) / 10 - now end
  end
  return -1
end
"""

ENTER: Final = Script(
    _WINDOW
    + """
local most, limit, uid, life = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
if is_counted(uid) then return {'in', '0', '60'} end
count_owed(5)
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now * 1000)
  if redis.call('ZCARD', KEYS[1]) >= most then return {'busy', '0', '0'} end
end
local left, reset = 0, 0
if limit > 0 then
  local sum = forget(KEYS[2], KEYS[3])
  if sum + 1 > limit then
    return {'wait', '0', tostring(fits_in(KEYS[2], KEYS[3], sum + 1 - limit))}
  end
  add(KEYS[2], KEYS[3], 1)
  note_counted(uid)
  left, reset = limit - sum - 1, 60
end
if most > 0 then
  redis.call('ZADD', KEYS[1], now * 1000 + life, uid)
  redis.call('PEXPIRE', KEYS[1], life + 1000)
end
return {'in', tostring(left), tostring(reset)}
"""
)
"""ARGV: most at once, requests a minute, who, for how many milliseconds at most; who else was let in unasked.

in, left, s | busy | wait, 0, s."""

OWED: Final = Script(_WINDOW + "count_owed(1) return {'done'}")
"""ARGV: who was let in unasked."""

RESERVE: Final = Script(
    _WINDOW
    + """
local limit, amount, who = tonumber(ARGV[1]), tonumber(ARGV[2]), 'tokens of ' .. ARGV[3]
local sum = forget(KEYS[4], KEYS[5])
if sum + amount > limit then
  return {'wait', '0', tostring(fits_in(KEYS[4], KEYS[5], sum + amount - limit))}
end
add(KEYS[4], KEYS[5], amount)
note_counted(who)
return {'in', tostring(limit - sum - amount), tostring(slice)}
"""
)
"""ARGV: tokens a minute, how many, whose.

in, left, slice | wait, 0, s; -1 s: never."""

END: Final = Script(
    _WINDOW
    + """
redis.call('ZREM', KEYS[1], ARGV[1])
local amount = tonumber(ARGV[2])
if amount < 0 then
  local back = math.min(-amount, tonumber(redis.call('HGET', KEYS[4], ARGV[3]) or '0'))
  if back > 0 then
    redis.call('HINCRBY', KEYS[4], ARGV[3], -back)
    redis.call('HINCRBY', KEYS[4], 'sum', -back)
  end
elseif amount > 0 then
  local unasked = ARGV[3] == '' and 'tokens of ' .. ARGV[1]
  forget(KEYS[4], KEYS[5])
  if not (unasked and is_counted(unasked)) then add(KEYS[4], KEYS[5], amount) end
  if unasked then note_counted(unasked) end
end
return {'done'}
"""
)
"""ARGV: who, how many tokens more (below 0: fewer) than had been reserved, the slice of those ('': never asked for)."""
