-- KV/1.0 for Wireshark and tshark 3.6 and newer (Lua 5.2 to 5.4). One file without dependencies.
--
-- It puts the bytes of each direction in order itself, by sequence number: where a segment comes twice, late, or twice
-- in parts, Wireshark hands a dissector something else, or nothing. So three functions share the work. `claim` is what
-- Wireshark calls for port 5050, for "Decode As" and for what looks like KV/1.0; it only notes that a connection is one.
-- `follow`, a postdissector, sees every segment of such a connection and does everything. `decrypted` does the same
-- for what Wireshark has decrypted.
--
-- The n-th reply of a connection answers its n-th request. Where the capture lacks bytes, nobody can count any more:
-- from there on nothing is paired, and a note says so.

-- Loaded twice, as a plugin and by -X lua_script, it is there once. KV_1_0 is its one global name.
local wants_statistics = (...) == "statistics"
if _G.KV_1_0 then
    if wants_statistics then _G.KV_1_0.print_statistics() end
    return
end

local PORT = 5050
local MOST_LINE = 1048576 -- bytes that are kept of a line; the rest is counted only
local MOST_HELD = 1024 -- segments that wait for one before them
local MOST_HELD_ACKED = 16 -- the same where the receiver has it: then only the capture lacks it
local MOST_UNANSWERED = 1000000 -- requests a connection can have open

-- Which word of a request is its key. The words of AUTH are not shown: one is a password.
local KEY_WORD = { GET = 3, PUT = 3, DEL = 3, PUTEX = 4, EXPIRE = 3, TTL = 3, PERSIST = 3 }
local VALUE_WORD = { PUT = 4, PUTEX = 5 }
local COMMANDS = { STATS = true, QUIT = true, AUTH = true, SLOWLOG = true, BURN = true, SLEEP = true }
for command in pairs(KEY_WORD) do COMMANDS[command] = true end
local PHRASES = {
    ["200"] = "OK", ["201"] = "CREATED", ["204"] = "NO_CONTENT", ["400"] = "BAD_REQUEST", ["401"] = "UNAUTHORIZED",
    ["403"] = "FORBIDDEN", ["404"] = "NOT_FOUND", ["426"] = "UPGRADE_REQUIRED", ["500"] = "SERVER_ERROR",
}
local STATS = { -- words of both forms of a STATS reply
    "connections", "commands_processed", "get_requests", "put_requests", "del_requests", "keys_stored", "keys", "served",
}

local kv = Proto("kv", "KV/1.0")
local kvs = Proto("kvs", "KV/1.0 over TLS")
local follower = Proto("kv_follow", "KV/1.0, the order of its bytes")

local f = {
    request = ProtoField.string("kv.request", "Request"),
    reply = ProtoField.string("kv.reply", "Reply"),
    version = ProtoField.string("kv.version", "Version"),
    command = ProtoField.string("kv.command", "Command"),
    key = ProtoField.string("kv.key", "Key"),
    value = ProtoField.string("kv.value", "Value"),
    code = ProtoField.uint16("kv.code", "Code", base.DEC),
    phrase = ProtoField.string("kv.phrase", "Phrase"),
    data = ProtoField.string("kv.data", "Data"),
    time = ProtoField.relative_time("kv.time", "Time from request to reply"),
    reply_to = ProtoField.string("kv.reply_to", "Reply to"),
    request_in = ProtoField.framenum("kv.request_in", "Request in", base.NONE, frametype.REQUEST),
    response_in = ProtoField.framenum("kv.response_in", "Reply in", base.NONE, frametype.RESPONSE),
    length = ProtoField.uint32("kv.length", "Length of the line, with its line feed", base.DEC),
    begun_in = ProtoField.framenum("kv.begun_in", "The line begins in"),
    crlf = ProtoField.bool("kv.crlf", "Ends in CRLF"),
    unanswered = ProtoField.uint32("kv.unanswered", "Requests unanswered", base.DEC),
    uptime = ProtoField.string("kv.stats.uptime", "Uptime"),
}
for _, name in ipairs(STATS) do f["stats_" .. name] = ProtoField.uint64("kv.stats." .. name, name, base.DEC) end
kv.fields = f

local CHAT, NOTE, WARN, ERROR = expert.severity.CHAT, expert.severity.NOTE, expert.severity.WARN, expert.severity.ERROR
local PROTOCOL, SEQUENCE, MALFORMED = expert.group.PROTOCOL, expert.group.SEQUENCE, expert.group.MALFORMED
local e = {
    version = ProtoExpert.new("kv.expert.version", "Not KV/1.0: a server answers 426", PROTOCOL, WARN),
    command = ProtoExpert.new("kv.expert.command", "Unknown command: a server answers 400", PROTOCOL, WARN),
    reply = ProtoExpert.new("kv.expert.reply", "Not a reply of KV/1.0", MALFORMED, WARN),
    refused = ProtoExpert.new("kv.expert.refused", "The server refused the request", expert.group.RESPONSE_CODE, NOTE),
    failed = ProtoExpert.new("kv.expert.failed", "The server failed", expert.group.RESPONSE_CODE, ERROR),
    no_reply = ProtoExpert.new("kv.expert.no_reply", "Request without reply in this capture", SEQUENCE, WARN),
    no_request = ProtoExpert.new("kv.expert.no_request", "Reply without request in this capture", SEQUENCE, WARN),
    after_quit = ProtoExpert.new("kv.expert.after_quit", "Behind QUIT: no server runs it", SEQUENCE, NOTE),
    reset = ProtoExpert.new("kv.expert.reset", "Reset with requests unanswered", SEQUENCE, ERROR),
    closed = ProtoExpert.new("kv.expert.closed", "The server closed with requests unanswered", SEQUENCE, WARN),
    cut = ProtoExpert.new("kv.expert.cut", "The connection ended within a line", SEQUENCE, WARN),
    lost = ProtoExpert.new("kv.expert.lost", "Bytes are missing in the capture: from here nothing is paired",
        expert.group.UNDECODED, WARN),
    pipelined = ProtoExpert.new("kv.expert.pipelined", "Several requests in one segment", SEQUENCE, CHAT),
}
kv.experts = e
kv.prefs.port = Pref.uint("Port", PORT, "The port of KV/1.0 servers; others: Decode As")

local streams, frames, ends, passed = {}, {}, {}, nil
function kv.init() streams, frames, ends, passed = {}, {}, {}, nil end

-- A line: what is known of it once its line feed has come. In numbered places, for a capture has millions.
local FIRST, LENGTH, TEXT, FRAME, TIME, IS_REPLY, PEER, WHY, BEGUN, ASKED, CODE = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 10

local function after(a, b) -- how far a is behind b, both modulo 2^32
    local distance = (a - b) % 4294967296
    return distance < 2147483648 and distance or distance - 4294967296
end

local function direction() return { next = nil, held = {}, waiting = 0, parts = {}, size = 0, begun = nil } end

local function key_of(pinfo) -- the same for both directions
    local a, b = tostring(pinfo.net_src) .. "|" .. pinfo.src_port, tostring(pinfo.net_dst) .. "|" .. pinfo.dst_port
    return a < b and a .. "|" .. b or b .. "|" .. a
end

local function new_stream() return { from_client = direction(), from_server = direction(), open = {}, head = 1, tail = 0 } end

local function u16(text, at)
    local high, low = text:byte(at, at + 1)
    return high * 256 + low
end

local function u32(text, at) return u16(text, at) * 65536 + u16(text, at + 2) end

-- Return the TCP header of a frame, nil where there is none. Wireshark's own fields are not there in its first pass, in
-- which the order is made, so it is read here: the ports, behind an IPv4 header without options or an IPv6 header.
local function tcp_of(tvb, pinfo)
    local from, to = pinfo.src_port, pinfo.dst_port
    if from == 0 or to == 0 then return nil end
    local head = tvb:raw(0, math.min(tvb:captured_len(), 160))
    local ports = string.char(math.floor(from / 256), from % 256, math.floor(to / 256), to % 256)
    local tcp, at = nil, head:find(ports, 21, true)
    while at and at + 19 <= #head do -- of a packet in a tunnel, the innermost
        local size
        if head:byte(at - 20) == 0x45 and head:byte(at - 11) == 6 then size = u16(head, at - 18) - 20
        elseif at > 40 and math.floor(head:byte(at - 40) / 16) == 6 and head:byte(at - 34) == 6 then size = u16(head, at - 36) end
        if size then
            if size <= 0 then size = tvb:reported_len() - at + 1 end -- too long for the field: segmentation offload
            local start = math.floor(head:byte(at + 12) / 16) * 4
            tcp = { seq = u32(head, at + 4), ack = u32(head, at + 8), flags = head:byte(at + 13), length = size - start,
                start = at - 1 + start }
        end
        at = head:find(ports, at + 1, true)
    end
    return tcp
end

local function has(flags, bit) return math.floor(flags / bit) % 2 == 1 end
local FIN, SYN, RST, ACK = 1, 2, 4, 16

local function words_of(line) -- the words, each as offset and text; a value is the rest of the line
    local most = VALUE_WORD[line:match("^[^ ]* ([^ ]*)") or ""] or 8
    local words, at = {}, 1
    while at do
        local space = #words + 1 < most and line:find(" ", at, true)
        words[#words + 1] = { at - 1, line:sub(at, (space or #line + 1) - 1) }
        at = space and space + 1
    end
    return words
end

-- Pairing -----------------------------------------------------------------------------------------------------------

local function on_request(stream, line, text, stop)
    line[ASKED] = text:match("^[^ ]* ([^ \r]+ ?[^ \r]*)") or ""
    if stream.lost then line[WHY] = "lost" return end
    if stream.quit then line[WHY] = "after_quit" return end
    if stream.tail - stream.head >= MOST_UNANSWERED then stream.lost, line[WHY] = true, "lost" return end
    stream.tail = stream.tail + 1
    stream.open[stream.tail] = { line, stop }
    if text:find("^KV/1%.0 QUIT\r?$") then stream.quit = true end
end

local function on_reply(stream, line, text, ack)
    line[CODE] = text:match("^%d%d%d [A-Z_]+") or "(not a reply)"
    if stream.lost then line[WHY] = "lost" return end
    local asked = stream.open[stream.head]
    -- A server answers what it has received: what it has not acknowledged is not what this reply is for.
    if not asked or (ack and asked[2] and after(ack, asked[2]) < 0) then line[WHY] = "no_request" return end
    stream.open[stream.head] = nil
    stream.head = stream.head + 1
    line[PEER], asked[1][PEER] = asked[1], line
end

-- Bytes in order, and the lines in them -------------------------------------------------------------------------------

local function take(stream, way, is_reply, text, shift, pinfo, found)
    -- text continues what came before; shift: where it begins in this frame's payload, nil where it lies in others
    local at = 1
    while true do
        local feed = text:find("\n", at, true)
        if not feed then break end
        local piece = text:sub(at, feed - 1)
        local line = { nil, way.size + feed - at + 1, false, pinfo.number, pinfo.rel_ts, is_reply, nil, nil, way.begun }
        if #way.parts == 0 and shift then
            line[FIRST] = shift + at - 1
        else
            way.parts[#way.parts + 1] = piece
            piece = table.concat(way.parts)
            line[TEXT] = piece
        end
        if is_reply then on_reply(stream, line, piece, way.ack)
        else on_request(stream, line, piece, way.next and (way.next + feed) % 4294967296) end
        found[#found + 1] = line
        way.parts, way.size, way.begun, at = {}, 0, nil, feed + 1
    end
    if at <= #text then
        way.begun = way.begun or pinfo.number
        if way.size < MOST_LINE then way.parts[#way.parts + 1] = text:sub(at, at + MOST_LINE - 1) end
        way.size = way.size + #text - at + 1
    end
    if way.next then way.next = (way.next + #text) % 4294967296 end
end

local function lose(stream, way, found)
    if not stream.lost then found.lost = true end
    stream.lost = true
    stream.open, stream.head, stream.tail = {}, 1, 0
    way.parts, way.size, way.begun = {}, 0, nil
end

local function receive(stream, way, is_reply, acked, seq, text, length, pinfo, found)
    local ahead = after(seq, way.next)
    if ahead + length <= 0 then return end -- all of it came before
    if ahead > 0 then
        way.held[#way.held + 1] = { seq, text, length }
        if #way.held <= (acked and after(acked, way.next) > 0 and MOST_HELD_ACKED or MOST_HELD) then return end
        table.sort(way.held, function(a, b) return after(a[1], b[1]) < 0 end)
        lose(stream, way, found)
        way.next = way.held[1][1]
    else
        take(stream, way, is_reply, text:sub(1 - ahead), -ahead, pinfo, found)
        if #text < length then -- captured in part only
            lose(stream, way, found)
            way.next = (seq + length) % 4294967296
        end
    end
    local moved = #way.held > 0
    while moved do
        moved = false
        for index, held in ipairs(way.held) do
            local distance = after(held[1], way.next)
            if distance <= 0 then
                table.remove(way.held, index)
                if distance + held[3] > 0 then
                    take(stream, way, is_reply, held[2]:sub(1 - distance), nil, pinfo, found)
                    if #held[2] < held[3] then
                        lose(stream, way, found)
                        way.next = (held[1] + held[3]) % 4294967296
                    end
                end
                moved = #way.held > 0
                break
            end
        end
    end
end

-- What is shown -----------------------------------------------------------------------------------------------------

local function add_text(tree, field, range, at, length)
    if length > 0 and at + length <= range:len() then
        return tree:add_packet_field(field, range(at, length), ENC_UTF_8)
    end
    return nil
end

local function seconds_of(line, peer)
    local ns = math.max(0, math.floor((line[TIME] - peer[TIME]) * 1e9 + 0.5))
    return NSTime.new(math.floor(ns / 1e9), ns % 1e9)
end

local function show_request(tree, line, range, text, visited)
    local words = words_of(text)
    local command = words[2] and words[2][2]
    add_text(tree, f.version, range, words[1][1], #words[1][2])
    if words[1][2] ~= "KV/1.0" then
        tree:add_proto_expert_info(e.version)
    elseif not COMMANDS[command or ""] then
        tree:add_proto_expert_info(e.command)
    end
    if command then add_text(tree, f.command, range, words[2][1], #command) end
    local key, value = words[KEY_WORD[command] or 0], words[VALUE_WORD[command] or 0]
    if key then add_text(tree, f.key, range, key[1], #key[2]) end
    if value then add_text(tree, f.value, range, value[1], #value[2]) end
    if line[PEER] then
        tree:add(f.response_in, line[PEER][FRAME]):set_generated()
    elseif visited and not line[WHY] then
        tree:add_proto_expert_info(e.no_reply)
    end
    if not command then return text:sub(1, 20) end
    return command .. (key and " " .. key[2]:sub(1, 60) or "") .. (value and " (" .. #value[2] .. " bytes)" or "")
end

local function show_stats(tree, range, text)
    local from, stop = text:match("uptime: ()[^;]*();")
    if not from then from, stop = text:match("uptime=()%d+()s") end
    if from then add_text(tree, f.uptime, range, from - 1, stop - from) end
    for _, name in ipairs(STATS) do
        local at, digits = text:match("%f[%w_]" .. name .. "[:=] ?()(%d+)")
        if at and #digits <= 18 then tree:add(f["stats_" .. name], range(at - 1, #digits), UInt64.new(digits)) end
    end
end

local function show_reply(tree, line, range, text)
    local code, phrase, rest = text:match("^(%d%d%d) ([A-Z_]+)(.*)$")
    if not code or PHRASES[code] ~= phrase then tree:add_proto_expert_info(e.reply) end
    if code then
        tree:add(f.code, range(0, 3), tonumber(code))
        add_text(tree, f.phrase, range, 4, #phrase)
        if #rest > 1 then add_text(tree, f.data, range, 5 + #phrase, #rest - 1) end
        if code >= "500" then tree:add_proto_expert_info(e.failed)
        elseif code >= "400" and code ~= "404" then tree:add_proto_expert_info(e.refused) end
    end
    if line[PEER] then
        tree:add(f.request_in, line[PEER][FRAME]):set_generated()
        tree:add(f.time, seconds_of(line, line[PEER])):set_generated()
        tree:add(f.reply_to, line[PEER][ASKED]):set_generated()
        if line[PEER][ASKED] == "STATS" then show_stats(tree, range, text) end
    end
    return text:sub(1, 60)
end

local function range_of(line, payload)
    if line[FIRST] and line[FIRST] + line[LENGTH] <= payload:len() then return payload(line[FIRST], line[LENGTH]), nil end
    local kept = line[TEXT] or ""
    return ByteArray.new(kept .. "\n", true):tvb("KV/1.0 line"):range(), kept
end

local function show(pinfo, tree, payload, found)
    local requests, replies, said = 0, 0, {}
    for _, line in ipairs(found) do
        local range, text = range_of(line, payload)
        text = text or range:raw(0, range:len() - 1)
        local bare = text:gsub("\r$", "")
        local top = tree:add(kv, range)
        top:add_packet_field(line[IS_REPLY] and f.reply or f.request, range(0, math.max(1, #bare)), ENC_UTF_8)
        local summary
        if line[IS_REPLY] then
            replies = replies + 1
            summary = show_reply(top, line, range, bare)
        else
            requests = requests + 1
            summary = show_request(top, line, range, bare, pinfo.visited)
        end
        if line[WHY] and e[line[WHY]] and line[WHY] ~= "lost" then top:add_proto_expert_info(e[line[WHY]]) end
        if #bare < #text then top:add(f.crlf, true):set_generated() end
        if line[BEGUN] then top:add(f.begun_in, line[BEGUN]):set_generated() end
        top:add(f.length, line[LENGTH]):set_generated()
        top:append_text(", " .. summary:gsub("[%c\128-\255]", "."))
        if #said < 4 then said[#said + 1] = summary end
    end
    local rest = (requests > 1 or found.lost or #found == 0) and tree:add(kv, payload)
    if #found == 0 then rest:append_text(", part of a line") end
    if requests > 1 then rest:append_text(", pipeline"):add_proto_expert_info(e.pipelined, requests .. " requests at once") end
    if found.lost then rest:append_text(", bytes are missing"):add_proto_expert_info(e.lost) end
    pinfo.cols.protocol = "KV/1.0"
    local count = #found
    local info = count > 1 and count .. (replies > 0 and " replies: " or " requests: ") or ""
    if count == 0 then info = "part of a line" end
    info = info .. table.concat(said, ", ") .. (count > #said and ", ..." or "")
    pinfo.cols.info = (info:gsub("[%c]", "."))
end

-- What Wireshark calls ------------------------------------------------------------------------------------------------

local function claimed(pinfo, text)
    local key = key_of(pinfo)
    local stream = streams[key] or new_stream()
    streams[key] = stream
    if not stream.server then
        local port = kv.prefs.port
        if pinfo.dst_port == port and pinfo.src_port ~= port then stream.server = pinfo.dst_port
        elseif pinfo.src_port == port and pinfo.dst_port ~= port then stream.server = pinfo.src_port
        elseif text:find("^%d%d%d [A-Z]") then stream.server = pinfo.src_port
        else stream.server = pinfo.dst_port end
    end
    return stream
end

local function is_tls(text) return text:find("^[\20-\23]\3[\0-\4]") ~= nil end

local function claim(tvb, pinfo, tree)
    local text = tvb:raw(0, math.min(tvb:captured_len(), 8))
    local stream = claimed(pinfo, text)
    if stream.tls == nil then stream.tls = is_tls(text) end
    if stream.tls then return Dissector.get("tls"):call(tvb, pinfo, tree) end
    passed = { pinfo.number, tvb }
    pinfo.cols.protocol = "KV/1.0"
    return tvb:reported_len()
end

local function looks_like_it(tvb, pinfo, tree)
    if tvb:captured_len() < 7 or tvb:raw(0, 7) ~= "KV/1.0 " then return false end
    pinfo.conversation = kv
    claim(tvb, pinfo, tree)
    return true
end

local function note_end(stream, way, is_reply, flags, pinfo)
    if stream.lost or not (has(flags, FIN) or has(flags, RST)) then return end
    local kind = has(flags, RST) and "reset" or is_reply and "closed" or "half"
    local open = stream.tail - stream.head + 1
    local cut = way.size > 0 and #way.held == 0 and not stream.ended
    if (kind ~= "half" and open > 0 and not stream.ended) or cut then ends[pinfo.number] = { kind, open, cut } end
    stream.ended = stream.ended or kind ~= "half"
end

local function show_end(tree, noted)
    local kind, open, cut = noted[1], noted[2], noted[3]
    local top = tree:add(kv)
    if kind ~= "half" and open > 0 then
        top:append_text(", " .. open .. " unanswered")
        top:add(f.unanswered, open):set_generated()
        top:add_proto_expert_info(e[kind])
    end
    if cut then top:add_proto_expert_info(e.cut) end
end

local function follow(tvb, pinfo, tree)
    local tcp = tcp_of(tvb, pinfo)
    if not tcp then return end
    local key = key_of(pinfo)
    local stream = streams[key]
    if not pinfo.visited and has(tcp.flags, SYN) then
        -- Ports are used again: another first number is another connection.
        if not has(tcp.flags, ACK) and (not stream or stream.first ~= tcp.seq) then
            stream = new_stream()
            stream.first, stream.from_client.next = tcp.seq, (tcp.seq + 1) % 4294967296
            streams[key] = stream
        elseif has(tcp.flags, ACK) and stream then
            stream.from_server.next = stream.from_server.next or (tcp.seq + 1) % 4294967296
        end
    end
    if not stream or stream.tls or not stream.server then return end
    local number = pinfo.number
    local is_reply = pinfo.src_port == stream.server
    local way = is_reply and stream.from_server or stream.from_client
    local kept = math.min(tcp.length, tvb:captured_len() - tcp.start)
    local range, length = kept > 0 and tvb:range(tcp.start, kept) or nil, tcp.length
    -- With tcp.reassemble_out_of_order `claim` can get more than a segment: with it what came before it, perhaps before
    -- the connection was known to be one of KV/1.0.
    if passed and passed[1] == number and range and passed[2]:captured_len() > kept
        and passed[2]:raw(0, kept) == range:raw() then
        range, length = passed[2]:range(), passed[2]:reported_len()
    end
    passed = nil
    if not pinfo.visited then
        if has(tcp.flags, ACK) and (not way.ack or after(tcp.ack, way.ack) > 0) then way.ack = tcp.ack end
        if length > 0 and not has(tcp.flags, RST) then
            way.next = way.next or tcp.seq
            local found = {}
            local acked = (is_reply and stream.from_client or stream.from_server).ack
            receive(stream, way, is_reply, acked, tcp.seq, range and range:raw() or "", length, pinfo, found)
            if #found > 0 or found.lost or way.size > 0 then frames[number] = found end
        end
        note_end(stream, way, is_reply, tcp.flags, pinfo)
    end
    local found = frames[number]
    if found and range then show(pinfo, tree, range, found) end
    if ends[number] then show_end(tree, ends[number]) end
end

local function decrypted(tvb, pinfo, tree)
    local range = tvb:range()
    local text = range:raw()
    local stream = claimed(pinfo, text)
    stream.tls, stream.inside = true, true
    local call = (tonumber(pinfo.private["kv.call"] or "") or 0) + 1 -- a frame can hold many records
    pinfo.private["kv.call"] = tostring(call)
    local key = pinfo.number .. "/" .. call
    if not pinfo.visited and not frames[key] then
        local is_reply = pinfo.src_port == stream.server
        local found = {}
        take(stream, is_reply and stream.from_server or stream.from_client, is_reply, text, 0, pinfo, found)
        frames[key] = found
    end
    if frames[key] then show(pinfo, tree, range, frames[key]) end
    return tvb:reported_len()
end

kv.dissector, kvs.dissector, follower.dissector = claim, decrypted, follow
local tcp_port, tls_port = DissectorTable.get("tcp.port"), DissectorTable.get("tls.port")
local on_port = kv.prefs.port
tcp_port:add(on_port, kv)
tls_port:add(on_port, kvs)
function kv.prefs_changed()
    if kv.prefs.port == on_port then return end
    tcp_port:remove(on_port, kv)
    tls_port:remove(on_port, kvs)
    on_port = kv.prefs.port
    tcp_port:add(on_port, kv)
    tls_port:add(on_port, kvs)
end
kv:register_heuristic("tcp", looks_like_it)
kvs:register_heuristic("tls", function(tvb, pinfo, tree)
    local stream = streams[key_of(pinfo)]
    local known = stream and stream.inside
    if not known and (tvb:captured_len() < 7 or tvb:raw(0, 7) ~= "KV/1.0 ") then return false end
    decrypted(tvb, pinfo, tree)
    return true
end)
register_postdissector(follower)

-- Statistics ----------------------------------------------------------------------------------------------------------

local function percentile(sorted, share) return sorted[math.max(1, math.ceil(#sorted * share))] end

local function sorted_keys(counts)
    local keys = {}
    for key in pairs(counts) do keys[#keys + 1] = key end
    table.sort(keys)
    return keys
end

local function statistics()
    local commands, times, codes, total, unanswered = {}, {}, {}, 0, 0
    for _, found in pairs(frames) do
        for _, line in ipairs(found) do
            if not line[IS_REPLY] then
                local command = line[ASKED]:match("^[^ ]+")
                if not COMMANDS[command or ""] then command = "(unknown)" end
                total = total + 1
                commands[command] = (commands[command] or 0) + 1
                times[command] = times[command] or {}
                local reply = line[PEER]
                if reply then
                    table.insert(times[command], math.max(0, reply[TIME] - line[TIME]) * 1e6)
                    codes[reply[CODE]] = (codes[reply[CODE]] or 0) + 1
                else unanswered = unanswered + 1 end
            end
        end
    end
    local out = { string.format("KV/1.0: %d requests, %d without a reply", total, unanswered),
        string.format("%-10s %9s %11s %11s %11s", "command", "requests", "p50 us", "p99 us", "max us") }
    for _, command in ipairs(sorted_keys(commands)) do
        local all = times[command]
        table.sort(all)
        out[#out + 1] = #all == 0 and string.format("%-10s %9d", command, commands[command])
            or string.format("%-10s %9d %11.1f %11.1f %11.1f", command, commands[command], percentile(all, 0.5),
                percentile(all, 0.99), all[#all])
    end
    out[#out + 1] = string.format("%-21s %8s", "reply", "count")
    for _, code in ipairs(sorted_keys(codes)) do out[#out + 1] = string.format("%-21s %8d", code, codes[code]) end
    return table.concat(out, "\n") .. "\n"
end

_G.KV_1_0 = {
    print_statistics = function()
        local tap = Listener.new("frame")
        function tap.draw() print(statistics()) end
    end,
}
if gui_enabled() then
    register_menu("KV-1.0 statistics", function() TextWindow.new("KV/1.0"):set(statistics()) end, MENU_STAT_UNSORTED)
elseif wants_statistics then
    _G.KV_1_0.print_statistics()
end
