"""What is done within Redis in one step, as Lua.

An entry's identity is ``<milliseconds>-<number>``: time as Redis has it, and a number that rises by
one, so that how many wait is a difference. A bucket is read, acknowledged and put aside by the
holder of its lease alone: each script asks for that before it does anything.
"""

from __future__ import annotations

_IDS = """
local function field(info, name)
  for i = 1, #info, 2 do if info[i] == name then return info[i + 1] end end
end
local function split(id)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(n)
end
local function last_of(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  if info.err then return 0, 0 end
  return split(field(info, 'last-generated-id'))
end
local function delivered(key, group)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, info in ipairs(groups.err and {} or groups) do
    if field(info, 'name') == group then return field(info, 'last-delivered-id') end
  end
end
local function now_ms()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local function holds(lease, holder)
  return redis.call('GET', lease) == holder
end
local function trim(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err or #groups == 0 then return end
  local low_ms, low_n
  for _, info in ipairs(groups) do
    local ms, n
    if field(info, 'pending') > 0 then
      ms, n = split(redis.call('XPENDING', key, field(info, 'name'))[2])
    else
      ms, n = split(field(info, 'last-delivered-id'))
      n = n + 1
    end
    if not low_n or n < low_n then low_ms, low_n = ms, n end
  end
  redis.call('XTRIM', key, 'MINID', string.format('%.0f-%.0f', low_ms, low_n))
end
"""

PUT = (
    _IDS
    + """
local bound, added, last, room = tonumber(ARGV[1]), {}, {}, {}
local now, entries = now_ms(), (#ARGV - 1) / 6
local order = redis.call('INCRBY', KEYS[#KEYS], entries) - entries
for k = 1, #KEYS - 1 do
  local key = KEYS[k]
  local ms, n = last_of(key)
  last[k] = {math.max(ms, now), n}
  room[k] = bound - redis.call('XLEN', key)
  added[k] = 0
end
for i = 2, #ARGV, 6 do
  local k = tonumber(ARGV[i])
  order = order + 1
  if added[k] < room[k] then
    added[k] = added[k] + 1
    last[k][2] = last[k][2] + 1
    redis.call('XADD', KEYS[k], string.format('%.0f-%.0f', last[k][1], last[k][2]),
      'order', string.format('%.0f', order), 'id', ARGV[i + 1], 'symbol', ARGV[i + 2],
      'kind', ARGV[i + 3], 'coalesce', ARGV[i + 4], 'body', ARGV[i + 5])
  end
end
return added
"""
)
"""KEYS streams, then the counter of the order of all; ARGV bound of a stream, then of each entry:
which stream, id, symbol, kind, coalesce, body. Adds what there is room for; returns of each stream
how many were added."""

HOLD = """
local mine = {}
for k, lease in ipairs(KEYS) do
  local found = redis.call('GET', lease)
  local number, name = nil, nil
  if found then number, name = string.match(found, '^(%d+) (.*)$') end
  local is_earlier = name == ARGV[2] and tonumber(number) < tonumber(ARGV[1])
  if not found or is_earlier or found == ARGV[1] .. ' ' .. ARGV[2] then
    redis.call('SET', lease, ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
    mine[#mine + 1] = k
  end
end
return mine
"""
"""KEYS leases; ARGV number and name of the consumer, milliseconds. Takes the leases that are free,
or were held by an earlier consumer of the same name; returns which."""

RENEW = """
local lost = {}
for k, lease in ipairs(KEYS) do
  local found = redis.call('GET', lease)
  if found == ARGV[1] then redis.call('PEXPIRE', lease, ARGV[2])
  else lost[#lost + 1] = found or '' end
end
return lost
"""
"""KEYS leases; ARGV holder, milliseconds. Returns who holds those that were lost."""

RELEASE = """
for _, lease in ipairs(KEYS) do
  if redis.call('GET', lease) == ARGV[1] then redis.call('DEL', lease) end
end
"""
"""KEYS leases; ARGV holder."""

CLAIM = (
    _IDS
    + """
if not holds(KEYS[2], ARGV[2]) then return redis.error_reply('LOST') end
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4])
local found = {}
for _, one in ipairs(pending) do
  local entry = redis.call('XCLAIM', KEYS[1], ARGV[1], 'holder', 0, one[1],
    'RETRYCOUNT', one[4] + 1)
  if #entry == 1 and entry[1] then found[#found + 1] = {one[1], entry[1][2], one[4] + 1}
  else found[#found + 1] = {one[1], {}, one[4] + 1} end
end
return found
"""
)
"""KEYS stream, lease; ARGV group, holder, from which identity, how many. What was taken before and
not acknowledged, in order, counted as tried once more."""

READ = (
    _IDS
    + """
local n, limit = #KEYS / 2, tonumber(ARGV[3])
for i = 1, n do if not holds(KEYS[n + i], ARGV[2]) then return redis.error_reply('LOST') end end
local per, orders, frontier, from = math.max(8, math.ceil(2 * limit / n)), {}, math.huge, {}
for k = 1, n do
  from[k] = delivered(KEYS[k], ARGV[1])
  if not from[k] then return redis.error_reply('NOGROUP ' .. KEYS[k]) end
end
for k = 1, n do
  local got = redis.call('XRANGE', KEYS[k], '(' .. from[k], '+', 'COUNT', per)
  orders[k] = {}
  for i, entry in ipairs(got) do orders[k][i] = tonumber(field(entry[2], 'order') or '0') or 0 end
  if #got == per then frontier = math.min(frontier, orders[k][per]) end
end
local counts, left, found = {}, limit, {}
for k = 1, n do counts[k] = 0 end
while left > 0 do
  local best, least = nil, math.huge
  for k = 1, n do
    local order = orders[k][counts[k] + 1]
    if order and order < least then best, least = k, order end
  end
  if not best or least > frontier then break end
  counts[best], left = counts[best] + 1, left - 1
end
for k = 1, n do
  if counts[k] > 0 then
    local got = redis.call('XREADGROUP', 'GROUP', ARGV[1], 'holder', 'COUNT', counts[k],
      'STREAMS', KEYS[k], '>')
    if got then found[#found + 1] = {k, got[1][2]} end
  end
end
if #found > 0 then return {found, {}} end
local last = {}
for k = 1, n do last[k] = string.format('%.0f-%.0f', last_of(KEYS[k])) end
return {found, last}
"""
)
"""KEYS streams, then their leases; ARGV group, holder, how many. The next entries in the order in
which all of them were published, whatever their streams: none is read past one that another stream
may still have before it. Where there is none, the last identity of each stream. Nothing is taken
where a stream or its group is gone: NOGROUP."""

DONE = (
    _IDS
    + """
if not holds(KEYS[2], ARGV[2]) then return redis.error_reply('LOST') end
for i = 3, #ARGV do redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) end
trim(KEYS[1])
"""
)
"""KEYS stream, lease; ARGV group, holder, identities. What every group is done with is removed."""

AGAIN = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return redis.error_reply('LOST') end
redis.call('XCLAIM', KEYS[1], ARGV[1], 'holder', 0, ARGV[3], 'RETRYCOUNT', ARGV[4], 'JUSTID')
"""
"""KEYS stream, lease; ARGV group, holder, identity, attempt."""

BURY = (
    _IDS
    + """
if not holds(KEYS[2], ARGV[2]) then return redis.error_reply('LOST') end
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[4], '*', 'id', ARGV[5], 'symbol', ARGV[6],
  'kind', ARGV[7], 'reason', ARGV[8], 'attempts', ARGV[9], 'body', ARGV[10], 'group', ARGV[1])
redis.call('XACK', KEYS[1], ARGV[1], ARGV[3])
redis.call('HINCRBY', KEYS[4], 'dead:' .. ARGV[1], 1)
trim(KEYS[1])
"""
)
"""KEYS stream, lease, dead letters, counts; ARGV group, holder, identity, letters kept, then id,
symbol, kind, reason, attempts and body."""

LAG = (
    _IDS
    + """
local waiting, pending, oldest, now = 0, 0, 0, now_ms()
for _, key in ipairs(KEYS) do
  local _, n = last_of(key)
  local from = "-"
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if not groups.err then
    for _, info in ipairs(groups) do
      if field(info, 'name') == ARGV[1] then
        pending = pending + field(info, 'pending')
        from = '(' .. field(info, 'last-delivered-id')
      end
    end
  end
  local first = redis.call('XRANGE', key, from, '+', 'COUNT', 1)[1]
  if first then
    local ms, number = split(first[1])
    waiting = waiting + n - number + 1
    oldest = math.max(oldest, now - ms)
  end
end
return {waiting, pending, oldest}
"""
)
"""KEYS streams; ARGV group. How many wait, how many are taken, and milliseconds since the oldest
that waits."""
