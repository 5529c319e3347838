/*
 * What the scripts of a thread share. Every one of them takes
 *   KEYS  meta, log, keys, runs, live, ended (see redis-keys.ts)
 *   ARGV  1 run_id of the server, '' to ask it   2 candidate for a new epoch
 * and may answer
 *   {'missing', user of the tombstone or ''}   there is no such thread
 *   {'epoch', previous}                        the candidate does not sort after it: again with another one
 */

/** ARGV[1] is the run_id of the server, '' to ask it. */
export const SERVER_ID = `
local call = redis.call

local function server_id ()
  if ARGV[1] ~= '' then return ARGV[1] end
  return string.match(call('INFO', 'server'), 'run_id:(%x+)')
end
`

/**
 * Opens the thread: `thread` is its state as read, `problem` the answer if it cannot be opened. A changed or missing
 * run_id begins a new epoch; seq goes on.
 */
export const OPEN = `${SERVER_ID}
local meta, log, keys, runs, live, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local thread, problem

-- By bytes: the order of < depends on the server's locale.
local function sorts_after (a, b)
  for i = 1, #b do
    local x, y = string.byte(a, i) or 0, string.byte(b, i)
    if x ~= y then return x > y end
  end
  return false
end

local function open ()
  local f = call('HMGET', meta, 'record', 'server', 'epoch', 'epochs', 'seq', 'first', 'bytes', 'at', 'ttl', 'tombstone')
  if not f[1] then
    problem = {'missing', f[10] or ''}
    return false
  end
  thread = {record = f[1], epoch = f[3], epochs = f[4], seq = tonumber(f[5]), first = tonumber(f[6]), bytes = tonumber(f[7]) or 0, at = tonumber(f[8]) or 0, ttl = tonumber(f[9]) or 0}
  local server = server_id()
  local is_known = thread.epoch and thread.epochs and thread.seq and thread.first
  if is_known and f[2] == server then return true end
  if thread.epoch and not sorts_after(ARGV[2], thread.epoch) then
    problem = {'epoch', thread.epoch}
    return false
  end
  if not is_known then
    -- Without a position what is left of the log means nothing.
    call('DEL', log, keys)
    thread.seq, thread.first, thread.bytes, thread.at, thread.epochs = 0, 1, 0, 0, ''
  end
  thread.epoch = ARGV[2]
  local separator = thread.epochs == '' and '' or ','
  thread.epochs = thread.epochs .. separator .. thread.epoch .. ':' .. (thread.seq + 1)
  local _, count = string.gsub(thread.epochs, ':', ':')
  while count > 16 do
    thread.epochs = string.gsub(thread.epochs, '^[^,]*,', '')
    count = count - 1
  end
  call('HSET', meta, 'server', server, 'epoch', thread.epoch, 'epochs', thread.epochs, 'seq', thread.seq, 'first', thread.first, 'bytes', thread.bytes, 'at', thread.at)
  return true
end

local function now_ms ()
  local time = call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- A log that expired or was evicted is a log of which everything is trimmed.
local function check_log ()
  if thread.first <= thread.seq and call('EXISTS', log) == 0 then
    thread.first, thread.bytes, thread.at = thread.seq + 1, 0, 0
    return true
  end
  return false
end
`

/** A run's record as the scripts keep it: eleven words, those first that every call changes or must find unchanged. */
export const RUNS = `
local function get_run (id)
  local text = call('HGET', meta, 's:' .. id)
  if not text then return nil end
  local r = {id = id}
  r.state, r.fence, r.n, r.epoch, r.call_first, r.last, r.node, r.first, r.nonce, r.root, r.created =
    string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$')
  r.fence, r.n, r.last = tonumber(r.fence), tonumber(r.n), tonumber(r.last)
  r.is_live = r.state == 'running' or r.state == 'queued'
  return r
end

local function put_run (r)
  call('HSET', meta, 's:' .. r.id, table.concat({r.state, r.fence, r.n, r.epoch, r.call_first, r.last, r.node, r.first, r.nonce, r.root, r.created}, ' '))
end

-- {id, state, fence, n, firstSeq, lastSeq, callFirst, epoch, root, created, info, open, input}
local function describe (r)
  local text = call('HMGET', runs, 'i:' .. r.id, 'o:' .. r.id, 'p:' .. r.id)
  return {r.id, r.state, tostring(r.fence), tostring(r.n), r.first, tostring(r.last), r.call_first, r.epoch, r.root, r.created, text[1] or '', text[2] or '', text[3] or ''}
end

-- Live root runs, oldest first.
local function root_runs ()
  local roots = {}
  for _, member in ipairs(call('ZRANGE', live, 0, -1)) do
    if string.sub(member, 1, 1) == 'r' then
      local r = get_run(string.sub(member, 2))
      if r then roots[#roots + 1] = r end
    end
  end
  return roots
end

-- The oldest waiting run, unless a root run is at work: it becomes node's.
local function hand_out (node)
  local oldest
  for _, r in ipairs(root_runs()) do
    if r.state == 'running' then return nil end
    oldest = oldest or r
  end
  if not oldest then return nil end
  oldest.state, oldest.fence, oldest.node = 'running', oldest.fence + 1, node
  put_run(oldest)
  return oldest
end

local function forget_run (id)
  call('HDEL', meta, 's:' .. id)
  call('HDEL', runs, 'i:' .. id, 'o:' .. id, 'p:' .. id, 'x:' .. id)
end
`

/**
 * Drops the oldest events while there are too many, too many bytes, or they are too old: at most `most` of them, with
 * their keys, and with the ended runs whose last event goes. True when something was dropped.
 */
export const TRIM = `
local function trim (now, most, max_events, max_bytes, max_age)
  local function too_many (at)
    return thread.first <= thread.seq and (thread.seq - thread.first + 1 > max_events or thread.bytes > max_bytes or at < now - max_age)
  end
  if not too_many(thread.at) then return false end
  local from = thread.first
  local entries = call('XRANGE', log, '-', '+', 'COUNT', most + 1)
  thread.at = 0
  if #entries == 0 then thread.first, thread.bytes = thread.seq + 1, 0 end
  for i = 1, #entries do
    local fields = entries[i][2]
    local at = tonumber(fields[4])
    if i > most or not too_many(at) then
      thread.at = at
      break
    end
    thread.bytes = thread.bytes - #fields[2]
    thread.first = tonumber(string.match(entries[i][1], '^%d+')) + 1
    if fields[6] then call('HDEL', keys, fields[6]) end
  end
  if thread.first == from then return false end
  call('XTRIM', log, 'MINID', thread.first .. '-0')
  return true
end

local function forget_ended ()
  for _, id in ipairs(call('ZRANGEBYSCORE', ended, '-inf', thread.first - 1, 'LIMIT', 0, 64)) do
    forget_run(id)
    call('ZREM', ended, id)
  end
end

local function keep_log (fields)
  call('HSET', meta, 'first', thread.first, 'bytes', thread.bytes, 'at', thread.at, unpack(fields or {}))
end
`
