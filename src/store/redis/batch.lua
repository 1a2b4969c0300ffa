-- Applies a batch exactly once, in the epoch that it was made for. KEYS: the family's key, its writers' key.
-- ARGV: writer, batch number, expiry in seconds (0: never), "hash" or "string", unix time, writer retention
-- in seconds, writers before a sweep, epoch, base (the number of the last batch of this writer that the server
-- must have), when a series of this batch began, in milliseconds (0: the family's series have no such time);
-- then triples of operation, field, value. If the series of the family end, the first triple is "ttl", the parts
-- of a series behind its labels, and the seconds. Without KEYS it does nothing, which the store uses to find out
-- whether scripts may run.
--
-- Returns {0} for a batch that was applied before, and {1, remarks...} for one that was applied now. If the series end,
-- {second, fields...} precedes the remarks: that of this server's clock, and the fields of gauges that had no value
-- before the batch added to them. A remark names a field whose value was not a number and was replaced, or a change
-- that was refused. {2, epoch, adopted} means that nothing was applied, because the family has another epoch. If there was none, a new one
-- begins. "adopted" is present if the key had values before. {2} answers a question (a batch without changes)
-- if there is no epoch. {3, number} means that nothing was applied, because the last batch of this writer here
-- is not the base, but this number (-1: there is none). A server that came back with older data, or a replica
-- that lagged behind when it became the master, answers so. The writer then sends again what is missing.
--
-- Redis does not undo changes when a script fails. So the script tries everything that the server may refuse
-- before the first change, and returns the error if there is one. After the first change, the batch is always
-- recorded as applied.

local key, writers = KEYS[1], KEYS[2]
if not key then return {0} end
local writer, number, expiry = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local base = tonumber(ARGV[9])
local created = ARGV[10]
local FIRST = 11
local INFINITY = 1 / 0

-- The script adds in doubles, because HINCRBYFLOAT refuses infinities and keeps no more than 17 decimals.
local function read(text)
  local lower = string.lower(text)
  if lower == 'inf' or lower == '+inf' then return INFINITY end
  if lower == '-inf' then return -INFINITY end
  if lower == 'nan' or lower == '-nan' then return 0 / 0 end
  return tonumber(text)
end

-- The text of a value that exists and was never changed. A zero that was counted or set has another spelling.
local UNTOUCHED = '0'

local function write(value)
  if value ~= value then return 'nan' end
  if value == INFINITY then return 'inf' end
  if value == -INFINITY then return '-inf' end
  if value == 0 then return 1 / value > 0 and '0.0' or '-0.0' end
  local text
  for digits = 15, 17 do
    text = string.format('%.' .. digits .. 'g', value)
    if tonumber(text) == value then break end
  end
  return text
end

local function renew(name)
  if expiry == '0' then return redis.pcall('PERSIST', name) end
  return redis.call('EXPIRE', name, expiry)
end

-- The times at which series began, and their exemplars. The key is not among KEYS, because a user whose key pattern
-- lacks it may still run the script. Its series then have none of these, so errors are ignored.
local meta = string.gsub(writers, ':writers$', ':meta')

-- Returns the labels of the series whose first value `field` is.
local function series_of(field)
  return string.match(field, '^(.*})#sum$') or string.match(field, '^.*}$')
end

-- The most exemplars of a series.
local SLOTS = 4

-- Deletes what `meta` has of a series.
local function forget_series(labels)
  local fields = { 'created ' .. labels, 'used ' .. labels }
  for slot = 0, SLOTS - 1 do fields[#fields + 1] = 'exemplar ' .. slot .. ' ' .. labels end
  redis.pcall('HDEL', meta, unpack(fields))
end

-- Returns an error if this server is a replica. A master that was deposed has the data of the new master. The
-- writer would take the difference for a loss, or for a key that was deleted on purpose.
local function refusal_of_replica()
  local reply = redis.pcall('HDEL', writers, '')
  if type(reply) == 'table' and string.find(reply.err, 'READONLY', 1, true) then
    return redis.error_reply("READONLY You can't write against a read only replica.")
  end
end

local entries = redis.pcall('HMGET', writers, 'epoch', writer, 'ttl')
if entries.err then -- of another type
  return redis.error_reply('WRITERS ' .. entries.err)
end
local epoch, seen = entries[1], entries[2]
if not epoch and not ARGV[FIRST] then return refusal_of_replica() or {2} end

local kind = redis.pcall('TYPE', key)
if kind.err then return kind end
kind = kind.ok
if kind ~= 'none' and kind ~= 'string' and kind ~= 'hash' then
  return redis.error_reply('FOREIGN it is a ' .. kind)
end

-- Returns why a key without a writers' key cannot hold values of this family.
local function foreign()
  if kind ~= 'none' and kind ~= ARGV[4] then return 'it is a ' .. kind end
  if kind == 'string' then
    local value = redis.pcall('GET', key)
    if type(value) == 'table' then return value.err end
    if not read(value) then return 'it holds "' .. string.sub(value, 1, 40) .. '", which is not a number' end
  elseif kind == 'hash' then
    local found = redis.pcall('HSCAN', key, 0, 'COUNT', 32)
    if found.err then return found.err end
    for index = 1, #found[2], 2 do
      local field = found[2][index]
      if not string.find(field, '^{.*}') then
        return 'its field "' .. string.sub(field, 1, 40) .. '" is not a set of labels'
      end
    end
  end
end

if not epoch or epoch ~= ARGV[8] then
  local adopted
  if not epoch then
    local reason = foreign()
    if reason then return redis.error_reply('FOREIGN ' .. reason) end
    -- The id must be new. The writer's name tells it from epochs of other writers, and the time tells it from
    -- an epoch that this same batch began before a loss.
    local time = redis.pcall('TIME')
    epoch = writer .. '-' .. ARGV[2] .. '-' .. (time[1] and time[1] .. '.' .. time[2] or ARGV[5])
    if kind ~= 'none' then
      -- The writers' key is gone or never existed, but the values exist. They must not be restored on top of
      -- themselves, which the "+" tells the writers.
      adopted, epoch = kind, epoch .. '+'
      if redis.pcall('TTL', key) == -1 then epoch = epoch .. 'keep' end
    end
    redis.call('HSET', writers, 'epoch', epoch)
    renew(writers)
  end
  return refusal_of_replica() or {2, epoch, adopted}
end

local last = seen and tonumber(string.match(seen, '^%d+')) or 0
if ARGV[FIRST] and number <= last then return {0} end
if last ~= base then return refusal_of_replica() or {3, seen and last or -1} end
-- A question (a batch without changes) ends here: the server has everything.
if not ARGV[FIRST] then return refusal_of_replica() or {1} end

if not seen then
  -- The first batch of a writer tests whether the server accepts entries at all.
  redis.call('HSET', writers, writer, '0 ' .. ARGV[5])
end
renew(writers)
-- A key that had no expiry when it was adopted gets none.
local is_kept = kind ~= 'none' and string.find(epoch, '+keep', 1, true) and redis.pcall('TTL', key) == -1

-- A family is a hash as soon as one process declares labels for it. The value without labels is the field
-- "{}".
local is_hash = kind == 'hash' or ARGV[4] == 'hash'
if is_hash and kind == 'string' then
  local value = redis.pcall('GET', key)
  if type(value) == 'table' then return value end
  local deleted = redis.pcall('DEL', key)
  if type(deleted) == 'table' then return deleted end
  redis.call('HSET', key, '{}', value)
end

-- Returns whether two values are the same, except that sums may have been rounded in another order.
local function same(one, other)
  local difference = math.abs(one - other)
  return one == other or one ~= one and other ~= other
    or difference < INFINITY and difference <= 1e-9 * math.max(math.abs(one), math.abs(other))
end

-- A native histogram as text is "schema;zeros;buckets above zero;buckets below zero", where the buckets are
-- "index:count", separated by commas. As a table it has the counts by index in sides[1] and sides[2].
local function read_native(text)
  local schema, zeros, positive, negative = string.match(text, '^(-?%d+);(%d+);([-:,%d]*);([-:,%d]*)$')
  if not schema then return end
  local native = { schema = tonumber(schema), zeros = tonumber(zeros), sides = { {}, {} }, size = 0 }
  for side, list in ipairs({ positive, negative }) do
    for index, count in string.gmatch(list, '(-?%d+):(%d+)') do
      native.sides[side][tonumber(index)] = tonumber(count)
      native.size = native.size + 1
    end
  end
  return native
end

local function write_native(native)
  local texts = {}
  for side, buckets in ipairs(native.sides) do
    local list = {}
    for index, count in pairs(buckets) do list[#list + 1] = string.format('%d:%.0f', index, count) end
    texts[side] = table.concat(list, ',')
  end
  return string.format('%d;%.0f;%s;%s', native.schema, native.zeros, texts[1], texts[2])
end

-- Makes two buckets one, until the schema is this one.
local function lower(native, schema)
  while native.schema > schema do
    native.schema, native.size = native.schema - 1, 0
    for side, buckets in ipairs(native.sides) do
      local merged = {}
      for index, count in pairs(buckets) do
        local half = math.ceil(index / 2)
        if not merged[half] then native.size = native.size + 1 end
        merged[half] = (merged[half] or 0) + count
      end
      native.sides[side] = merged
    end
  end
end

-- Returns the side and the index of the bucket that is nearest, on the same side if there is one.
local function nearest(native, side, index)
  for _, near in ipairs({ side, 3 - side }) do
    local found
    for other in pairs(native.sides[near]) do
      if not found or math.abs(other - index) < math.abs(found - index) then found = other end
    end
    if found then return near, found end
  end
end

-- Adds the counts of another histogram. With more than `size` buckets, the schema falls, but not below `lowest`:
-- then a new bucket counts in the nearest one.
local function add_native(native, added, size, lowest)
  lower(native, added.schema)
  lower(added, native.schema)
  native.zeros = native.zeros + added.zeros
  for side, buckets in ipairs(added.sides) do
    for index, count in pairs(buckets) do
      local to, at = side, index
      if not native.sides[side][index] then
        if native.size >= size and native.schema <= lowest then
          to, at = nearest(native, side, index)
        else
          native.size = native.size + 1
        end
      end
      native.sides[to][at] = (native.sides[to][at] or 0) + count
    end
  end
  while native.size > size and native.schema > lowest do lower(native, native.schema - 1) end
end

-- After how many seconds without use the series of this family end, and the parts of a series. A writer that declares
-- nothing follows those that do, as long as there are some: the field "ttl" of the writers' key also has the cursor of
-- the search for series that have ended, and when a writer that declares a time last searched.
local declares = ARGV[FIRST] == 'ttl'
local ttl, parts, cursor, searched = string.match(entries[3] or '', '^(%d+) (.-)(%d+) (%d+)$')
local now, grain, limit
if declares or ttl then
  local time = redis.pcall('TIME')
  now = tonumber(time[1] or ARGV[5])
  if declares then parts, ttl = ARGV[FIRST + 1], ARGV[FIRST + 2] end
  ttl = tonumber(ttl)
  -- The last use is noted once in so many seconds. Writers tell of look-ups as rarely.
  grain = math.floor(ttl / 16)
  limit = ttl + 2 * grain
  -- 0: the slot of the family is being moved, and {name}:meta may not be here yet.
  if ttl == 0 or not declares and now - tonumber(searched) > limit then ttl = nil end
end

-- Deletes all that there is of a series. Returns an error if there is one.
local function end_series(labels)
  local fields = {}
  for part in string.gmatch(parts, '%S+') do fields[#fields + 1] = labels .. part end
  if not fields[1] then fields[1] = labels end
  for from = 1, #fields, 1000 do
    local reply
    if is_hash then
      reply = redis.pcall('HDEL', key, unpack(fields, from, math.min(from + 999, #fields)))
    else
      reply = redis.pcall('DEL', key)
    end
    if type(reply) == 'table' then return reply end
  end
  forget_series(labels)
end

-- Notes that a series is used, and begins it anew if it was unused for too long. Returns false if the change belongs to
-- a series that has ended since, which only a change can that is sent again, or an error.
--
-- The field "used <labels>" has the seconds of the last use and of the beginning, by the clock of this server.
local made, uses = {}, {}
local function use(field)
  local labels = string.match(field, '^.*}')
  if not labels then return true end
  if uses[labels] ~= nil then return uses[labels] end
  local text = redis.pcall('HGET', meta, 'used ' .. labels)
  if type(text) == 'table' then return true end -- the user may not read it
  local first, last = now, now
  if made[labels] then first, last = math.min(made[labels][1], now), math.min(made[labels][2], now) end
  local used, began = string.match(text or '', '^(%d+) (%d+)$')
  local noted = tonumber(used)
  if noted then
    -- The clock of another server may have been ahead.
    used, began = math.min(noted, now), math.min(tonumber(began), now)
    if last + limit < began then
      uses[labels] = false
      return false
    end
    if first - used > limit then
      local refusal = end_series(labels)
      if refusal then return refusal end
      noted = nil
    end
  end
  if not noted then used, began = last, first end
  if not noted or noted > now or last - used >= math.max(grain, 1) or first < began then
    local times = string.format('%d %d', math.max(used, last), math.min(began, first))
    redis.pcall('HSET', meta, 'used ' .. labels, times)
  end
  uses[labels] = true
  return true
end

-- Keeps an exemplar in a field of `meta`, unless a newer one is there, or the series is not: another process may have
-- removed it. The text begins with the time in milliseconds. An exemplar is worth no error: the values count without it.
local function keep_exemplar(field, text)
  if created == '0' then return end
  local labels = string.match(field, '{.*}$')
  local value
  if is_hash then
    value = redis.pcall('HGET', key, labels) or redis.pcall('HGET', key, labels .. '#sum')
  else
    value = redis.pcall('GET', key)
  end
  if not value or uses[labels] == false then return end
  local before = redis.pcall('HGET', meta, field)
  local time = type(before) == 'string' and tonumber(string.match(before, '^%d+'))
  if not time or time <= tonumber(string.match(text, '^%d+')) then redis.pcall('HSET', meta, field, text) end
end

-- Ends series that were unused for too long: at most 100 in a second, and fewer than that are looked at if the series
-- are few. A search through all of them takes about half of the time after which they end.
local function search()
  local length = redis.pcall('HLEN', meta)
  if type(length) == 'table' then return end
  local count = math.max(64, math.min(1000, math.ceil(2 * length / ttl)))
  local found = redis.pcall('HSCAN', meta, cursor or '0', 'MATCH', 'used *', 'COUNT', count)
  local ended = 0
  for index = 1, #(found[2] or {}), 2 do
    local used = tonumber(string.match(found[2][index + 1], '^%d+'))
    if used and now - used > limit and ended < 100 then
      end_series(string.sub(found[2][index], #'used ' + 1))
      ended = ended + 1
    end
  end
  -- If there are more of them here, the next search begins here, too.
  if ended < 100 then cursor = found[1] end
  local all = parts == '' and '' or parts .. ' '
  redis.pcall('HSET', writers, 'ttl', string.format('%d %s%s %d', ttl, all, cursor or '0', now))
end

-- One change. Errors are returned, not raised.
local result = {1}
if ttl then result[2] = {now} end
local function change(operation, field, value)
  local current
  if operation == 'made' then
    -- The seconds in which a server has applied the following changes of the series before: the first, and the last.
    local labels = string.match(field, '^.*}')
    local first, last = string.match(value, '^(%d+) (%d+)$')
    made[labels], uses[labels] = { tonumber(first), tonumber(last) }, nil
    return true
  end
  if ttl and operation ~= 'delete' and operation ~= 'clear' then
    local is_used = use(field)
    if is_used ~= true then return is_used or true end
  end
  if operation == 'add' or operation == 'restore' or operation == 'replay' or operation == 'native' then
    if is_hash then current = redis.pcall('HGET', key, field) else current = redis.pcall('GET', key) end
    if type(current) == 'table' then return current end
  end
  if operation == 'add' then
    local old, amount = current and read(current), read(value)
    if old and amount == 0 then return true end
    if current and not old then
      result[#result + 1] = field .. ': the value was not a number, and was replaced'
    end
    if not current then
      local labels = created ~= '0' and series_of(field)
      if labels then redis.pcall('HSET', meta, 'created ' .. labels, created) end
      if ttl and created == '0' then result[2][#result[2] + 1] = field end
    end
    value = (old or amount ~= 0) and write((old or 0) + amount) or UNTOUCHED
    if is_hash then return redis.pcall('HSET', key, field, value) end
    return redis.pcall('SET', key, value)
  end
  if operation == 'native' then
    -- The argument is the most buckets of a series, the lowest schema, and what is added.
    local size, lowest, text = string.match(value, '^(%d+) (-?%d+) (%S+)$')
    local added = read_native(text)
    local native = current and read_native(current)
    if current and not native then
      result[#result + 1] = field .. ': the value was not a native histogram, and was replaced'
    end
    native = native or { schema = added.schema, zeros = 0, sides = { {}, {} }, size = 0 }
    add_native(native, added, tonumber(size), tonumber(lowest))
    return redis.pcall('HSET', key, field, write_native(native))
  end
  if operation == 'restore' then
    -- The argument is the value that one writer remembers, and the time at which that writer last changed it.
    -- The value is restored unless another process has counted since the loss. If several writers restore a
    -- value, the one with the latest time wins.
    local remembered, at = string.match(value, '^(%S+) (%d+)$')
    value = remembered
    local mark = 'restored ' .. field
    local text, before = string.match(redis.call('HGET', writers, mark) or '', '^(%S+) (%d+) %d+$')
    local is_older = text == current and tonumber(before) < tonumber(at)
    if current and current ~= UNTOUCHED and not is_older then return true end
    redis.call('HSET', writers, mark, write(read(value)) .. ' ' .. at .. ' ' .. ARGV[5])
  end
  if operation == 'replay' then
    -- The argument is a value that this writer has set, and the value that was here before, as far as the
    -- writer knows. If there is another one now, another process has set it, and its value stays.
    local set, before = string.match(value, '^(%S+) (%S+)$')
    local number = current and read(current)
    if current and current ~= UNTOUCHED and not (number and same(number, read(before))) then return true end
    value = set
  end
  if operation == 'set' or operation == 'restore' or operation == 'replay' then
    value = write(read(value))
    if is_hash then return redis.pcall('HSET', key, field, value) end
    return redis.pcall('SET', key, value)
  end
  if is_hash and operation == 'delete' then
    local labels = (created ~= '0' or ttl) and series_of(field)
    if labels then
      forget_series(labels)
      uses[labels] = nil
    end
    return redis.pcall('HDEL', key, field)
  end
  if created ~= '0' or ttl then redis.pcall('UNLINK', meta) end
  uses = {}
  -- The server frees a large hash in the background.
  return redis.pcall('UNLINK', key)
end

local has_changed = false
for index = declares and FIRST + 3 or FIRST, #ARGV, 3 do
  local operation = ARGV[index]
  if operation == 'exemplar' then
    keep_exemplar(ARGV[index + 1], ARGV[index + 2])
  else
    local reply = change(operation, ARGV[index + 1], ARGV[index + 2])
    if type(reply) == 'table' and reply.err then
      if not has_changed then return redis.error_reply(reply.err) end
      result[#result + 1] = ARGV[index + 1] .. ': ' .. operation .. ' was refused: ' .. reply.err
    end
    has_changed = has_changed or operation ~= 'made'
  end
end
if declares and ttl and now ~= tonumber(searched) then search() end
redis.call('HSET', writers, writer, ARGV[2] .. ' ' .. ARGV[5])
if not is_kept then
  renew(key)
  if created ~= '0' or ttl then
    if expiry == '0' then redis.pcall('PERSIST', meta) else redis.pcall('EXPIRE', meta, expiry) end
  end
end

-- Sweeps out entries of processes that died. Each new writer looks at a few entries, which bounds the work.
local count = not seen and redis.pcall('HLEN', writers)
if type(count) == 'number' and count >= tonumber(ARGV[7]) then
  local some = redis.pcall('HRANDFIELD', writers, 32, 'WITHVALUES')
  if some.err then -- before Redis 6.2, or not allowed
    some = redis.pcall('HSCAN', writers, 0, 'COUNT', 32)[2] or {}
  end
  for index = 1, #some, 2 do
    local last = tonumber(string.match(some[index + 1], '(%d+)$'))
    local is_old = not last or last + tonumber(ARGV[6]) < tonumber(ARGV[5])
    if is_old and some[index] ~= 'epoch' and some[index] ~= 'ttl' then redis.pcall('HDEL', writers, some[index]) end
  end
end
return result
