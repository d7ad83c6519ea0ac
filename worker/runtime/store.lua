-- The quota store: who may use which slot of a pooled window (docs/decisions/015-quota-store.md).
--
-- KEYS[1] is a hash: partition -> "UNTIL OWNER", until when it counts as heard of, and from whom.
-- Each other key is one window, a sorted set that stands for itself:
--   "PARTITION/ID"  a permit, by when its slot comes free (milliseconds by this server's clock)
--   "told/N"        all uses of partition N are in here; score -1
--   "run/ID"        this server has kept it all along; score: since when, negative
-- Were it lost, or kept by another run of the server, its marker would be missing: then it is begun anew.
--
-- ARGV[1] is a JSON object, as `runtime/store.py` writes it; without `at` it only asks what time it is.

local said = cjson.decode(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if not said.at then
  return cjson.encode({at = now})
end
-- It lay somewhere for too long: who said it has given it up, and may count on that.
if now - said.at > said.latest then
  return cjson.encode({at = now, late = true})
end

local DAY = 86400000
local run = 'run/' .. string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local windows = said.windows
for i, window in ipairs(windows) do
  window.key = KEYS[i + 1]
  if not redis.call('ZSCORE', window.key, run) then
    redis.call('DEL', window.key)
    redis.call('ZADD', window.key, -now, run)
  end
  redis.call('ZREMRANGEBYSCORE', window.key, 1, now)
  redis.call('PEXPIRE', window.key, DAY)
end

local heard = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local till, owner = string.match(all[i + 1], '^(%d+) (.*)$')
  heard[tonumber(all[i])] = {till = tonumber(till), owner = owner}
end

local function live(partition)
  return heard[partition] and heard[partition].till > now
end

local function hear(partition)
  heard[partition] = {till = now + said.lease, owner = said.me}
  redis.call('HSET', KEYS[1], partition, string.format('%.0f %s', now + said.lease, said.me))
end

local function told(window, partition)
  return redis.call('ZSCORE', window.key, 'told/' .. partition)
end

-- Let what counts for longer than some time count no longer than that.
local function bring_down(window, member, length)
  local score = redis.call('ZSCORE', window.key, member)
  if score and tonumber(score) > now + length then
    redis.call('ZADD', window.key, now + length, member)
  end
end

local function members(window, partition)
  local prefix, found = partition .. '/', {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', window.key, 1, '+inf')) do
    if string.sub(member, 1, #prefix) == prefix then
      found[#found + 1] = member
    end
  end
  return found
end

-- A partition's uses, as its ledger says: they take the place of what was known.
for _, one in ipairs(said.told) do
  for _, window in ipairs(windows) do
    for _, member in ipairs(members(window, one.partition)) do
      redis.call('ZREM', window.key, member)
    end
    redis.call('ZADD', window.key, -1, 'told/' .. one.partition)
  end
  for _, use in ipairs(one.uses) do
    redis.call('ZADD', windows[use[1]].key, now + use[3], one.partition .. '/' .. use[2])
  end
  hear(one.partition)
end

for _, one in ipairs(said.settled) do
  for _, i in ipairs(one.windows) do
    bring_down(windows[i], one.member, windows[i].window + 1)
  end
end
for _, one in ipairs(said.given_back) do
  for _, i in ipairs(one.windows) do
    redis.call('ZREM', windows[i].key, one.member)
  end
end

local untold = {}
for _, partition in ipairs(said.here) do
  local known = live(partition)
  for _, window in ipairs(windows) do
    known = known and told(window, partition)
  end
  if not known then
    untold[#untold + 1] = partition
  else
    if heard[partition].owner ~= said.me then
      -- Whatever its last owner sent was sent by now.
      for _, window in ipairs(windows) do
        for _, member in ipairs(members(window, partition)) do
          bring_down(window, member, window.timeout + window.window + 1)
        end
      end
    end
    hear(partition)
  end
end

-- The slots of the partitions that are heard of; or none, and for how long, while uses may be unknown.
local function slots(window)
  local known, since = {}, 0
  local marks = redis.call('ZRANGEBYSCORE', window.key, '-inf', 0, 'WITHSCORES')
  for i = 1, #marks, 2 do
    known[marks[i]] = true
    if marks[i] == run then
      since = -tonumber(marks[i + 1])
    end
  end
  local number, complete, of = 0, true, said.partitions
  for partition = 0, of - 1 do
    if not known['told/' .. partition] then
      complete = false
    elseif live(partition) then
      number = number + math.floor((partition + 1) * window.limit / of) - math.floor(partition * window.limit / of)
    end
  end
  local unknown = since + said.used_within + window.timeout + window.window + 1 - now
  if not complete and unknown > 0 then
    return 0, unknown
  end
  return number, 0
end

local given = {}
for n, ask in ipairs(said.asks) do
  local number, wait = #ask.ids, 0
  local ours = live(ask.partition) and heard[ask.partition].owner == said.me
  local open = {}
  for _, i in ipairs(ask.windows) do
    local window = windows[i]
    ours = ours and told(window, ask.partition)
    local limit, unknown = slots(window)
    if window.reserve > 0 and not ask.critical then
      limit = limit - math.min(math.max(1, math.floor(limit * window.reserve)), math.max(0, limit - 1))
    end
    open[i] = {limit = limit, unknown = unknown}
    wait = math.max(wait, unknown)
    number = math.min(number, math.max(0, limit - redis.call('ZCOUNT', window.key, 1, '+inf')))
  end
  if not ours then
    number, wait = 0, math.max(wait, 100)
  end
  for _, i in ipairs(ask.windows) do
    local window = windows[i]
    for k = 1, number do
      local free_at = now + said.used_within + window.timeout + window.window + 1
      redis.call('ZADD', window.key, free_at, ask.partition .. '/' .. ask.ids[k])
    end
    -- One more could be given once so many of these have come free.
    local missing = redis.call('ZCOUNT', window.key, 1, '+inf') - open[i].limit + 1
    if missing > 0 and open[i].unknown == 0 then
      local next = redis.call('ZRANGEBYSCORE', window.key, 1, '+inf', 'WITHSCORES', 'LIMIT', missing - 1, 1)
      wait = math.max(wait, next[2] and tonumber(next[2]) - now or window.window)
    end
  end
  given[n] = {number, wait}
end

local used = {}
if said.count then
  for i, window in ipairs(windows) do
    used[i] = {redis.call('ZCOUNT', window.key, 1, '+inf'), (slots(window))}
  end
end
return cjson.encode({at = now, untold = untold, given = given, used = used})
