-- The state of one Google project's limiter, which replicas share, in one hash. gcra.rs explains the algorithm and has the
-- same floating-point operations in the same order. A test compares both.
--
-- KEYS[1]: the hash of the project.
-- ARGV: the operation, whether to restore (0 or 1), the four numbers of `Remaining` in gcra.rs, the arguments of the operation:
--   admit INTERVAL BURST WANTED_CANCELS WANTED_READS WANTED_POLLS
--   refused INTERVAL HOLD
--   probe_answered
--   heartbeat REPLICA QUEUED_CANCELS QUEUED_READS QUEUED_POLLS
-- Times are in microseconds of this server's clock.
--
-- Returns strings, because a number would become an integer: the time, the five fields of `State`, and
--   after admit: three admitted numbers, whether one is a probe, three waits
--   after heartbeat: the number of replicas; by class, the number of queries that the others have queued, and the number
--     of the others that have any

local DECREASE = 0.7
local MIN_FACTOR = 0.05
local RECOVERY = 0.05 / 60e6
local PROBE_INTERVAL = 5e6
local MIN_HOLD = 1e6
local MAX_HOLD = 3600e6
local ROUNDING = 1e-3

-- The index of the first class, which alone probes a hold.
local CANCEL = 1

-- A replica without a heartbeat for this time no longer counts. In microseconds.
local HEARTBEAT_LIFETIME = 10e6

-- The hash of a project that no replica uses expires after this time. In milliseconds.
local IDLE_LIFETIME = 3600000

local max, min = math.max, math.min
local key, operation, is_return = KEYS[1], ARGV[1], ARGV[2] == '1'

-- Exact: 17 digits distinguish all 64-bit floats.
local function text(number)
  return string.format('%.17g', number)
end

local function argument(index)
  return tonumber(ARGV[index])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1e6 + tonumber(time[2])

local stored = redis.call('HMGET', key, 'tat', 'factor', 'factor_at', 'hold_until', 'probe_at', 'clock')
local is_new = not stored[1]
local tat = tonumber(stored[1] or 0)
local factor = tonumber(stored[2] or 1)
local factor_at = tonumber(stored[3] or 0)
local hold_until = tonumber(stored[4] or 0)
local probe_at = tonumber(stored[5] or 0)

-- The clock of a server may be set back, and that of its successor may be behind. The times keep their distance from now.
local shift = now - tonumber(stored[6] or 0)
if shift < 0 then
  tat, factor_at, hold_until, probe_at = tat + shift, factor_at + shift, hold_until + shift, probe_at + shift
end

local function learned_factor()
  return min(factor + RECOVERY * max(now - factor_at, 0), 1)
end

-- A restarted server has lost the hash. A replica that returns has used its own state in the meantime.
if is_new or is_return then
  tat = max(tat, now + argument(3))
  factor = min(learned_factor(), argument(4))
  hold_until = max(hold_until, now + argument(5))
  factor_at = max(now, hold_until)
  probe_at = max(probe_at, now + argument(6))
end

local function interval(pace_interval)
  return pace_interval / learned_factor()
end

local function ahead_of(pace_interval)
  return max(tat - now, 0) / interval(pace_interval)
end

local function held(class)
  if class == CANCEL then
    return max(min(probe_at, hold_until) - now, 0)
  end
  return max(hold_until - now, 0)
end

local function admit()
  local pace_interval, burst = argument(7), argument(8)
  local tolerances = { max(burst, 1), max(burst * 2 / 3, 1), max(burst / 3, 1) }

  local function wait(class)
    local hold, own = held(class), interval(pace_interval)
    local ahead = max(ahead_of(pace_interval) - hold / own, 0)
    local excess = ahead + 1 - tolerances[class]
    return hold + max(excess, 0) * own
  end

  local result, is_probe, is_any = {}, 0, false
  tat = min(tat, now + (burst + ROUNDING) * interval(pace_interval))
  local ahead = ahead_of(pace_interval)
  for class = 1, 3 do
    local wanted, admitted = argument(8 + class), 0
    while admitted < wanted and held(class) <= 0 and ahead + 1 <= tolerances[class] + ROUNDING do
      ahead = ahead + 1
      admitted = admitted + 1
      is_any = true
      if hold_until > now then
        probe_at = now + PROBE_INTERVAL
        is_probe = 1
      end
    end
    result[class] = text(admitted)
  end
  if is_any then
    tat = now + ahead * interval(pace_interval)
  end
  result[4] = text(is_probe)
  for class = 1, 3 do
    result[4 + class] = text(wait(class))
  end
  return result
end

local function refused()
  local pace_interval, hold = argument(7), argument(8)
  local hold_end = now + min(max(hold, MIN_HOLD), MAX_HOLD)
  if hold_until > now then
    hold_until = max(hold_until, hold_end)
    factor_at = hold_until
    return {}
  end
  if factor_at <= now then
    local ahead = ahead_of(pace_interval)
    factor = max(learned_factor() * DECREASE, MIN_FACTOR)
    tat = now + ahead * (pace_interval / factor)
    factor_at = hold_end
  end
  hold_until, probe_at = hold_end, now
  return {}
end

local function probe_answered()
  hold_until = min(hold_until, now)
  return {}
end

local function heartbeat()
  local own = 'replica:' .. ARGV[7]
  redis.call('HSET', key, own, text(now) .. ' ' .. ARGV[8] .. ' ' .. ARGV[9] .. ' ' .. ARGV[10])
  local fields = redis.call('HGETALL', key)
  local replicas, queued, contenders = 0, { 0, 0, 0 }, { 0, 0, 0 }
  for index = 1, #fields, 2 do
    local field = fields[index]
    local at, cancels, reads, polls = fields[index + 1]:match('^(%S+) (%d+) (%d+) (%d+)$')
    if field:sub(1, 8) == 'replica:' and at then
      if math.abs(now - tonumber(at)) > HEARTBEAT_LIFETIME then
        redis.call('HDEL', key, field)
      else
        replicas = replicas + 1
        for class, number in ipairs(field == own and {} or { tonumber(cancels), tonumber(reads), tonumber(polls) }) do
          queued[class] = queued[class] + number
          contenders[class] = contenders[class] + min(number, 1)
        end
      end
    end
  end
  local result = { text(replicas) }
  for class = 1, 3 do
    result[1 + class] = text(queued[class])
    result[4 + class] = text(contenders[class])
  end
  return result
end

local operations = { admit = admit, refused = refused, probe_answered = probe_answered, heartbeat = heartbeat }
local result = operations[operation]()

redis.call('HSET', key, 'tat', text(tat), 'factor', text(factor), 'factor_at', text(factor_at),
  'hold_until', text(hold_until), 'probe_at', text(probe_at), 'clock', text(now))
redis.call('PEXPIRE', key, IDLE_LIFETIME)

local reply = { text(now), text(tat), text(factor), text(factor_at), text(hold_until), text(probe_at) }
for _, value in ipairs(result) do
  reply[#reply + 1] = value
end
return reply
