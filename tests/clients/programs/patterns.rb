# The tutorials' patterns with bunny. Prints "ok NAME" per pattern; any error ends the program with code 1.
require "bunny"
require "timeout"

URL, TAG = ARGV
def name(part) = "ruby-#{part}-#{TAG}"
def check(is, should) = (raise "got #{is.inspect}, not #{should.inspect}" unless is == should)

# Takes `count` messages from a queue by a consumer.
def take(queue, count, **options)
  got = Queue.new
  consumer = queue.subscribe(**options) do |info, _props, body|
    got << body
    queue.channel.ack(info.delivery_tag) if options[:manual_ack]
  end
  out = Array.new(count) { got.pop }
  consumer.cancel
  out
end

PATTERNS = {
  work_queue: lambda do |conn|
    ch = conn.create_channel
    ch.prefetch(1)
    q = ch.queue(name("work"), durable: true)
    10.times { |n| q.publish("task #{n}", persistent: true) }
    check take(q, 10, manual_ack: true), Array.new(10) { |n| "task #{n}" }
    q.delete
  end,
  publish_subscribe: lambda do |conn|
    ch = conn.create_channel
    x = ch.fanout(name("logs"), auto_delete: true)
    queues = Array.new(2) { ch.queue("", exclusive: true).bind(x) }
    x.publish("hello")
    queues.each { |q| check take(q, 1), ["hello"] }
  end,
  routing: lambda do |conn|
    ch = conn.create_channel
    x = ch.direct(name("direct"), auto_delete: true)
    q = ch.queue("", exclusive: true)
    %w[error warning].each { |key| q.bind(x, routing_key: key) }
    %w[info error warning].each { |key| x.publish(key, routing_key: key) }
    check take(q, 2), %w[error warning]
  end,
  topics: lambda do |conn|
    ch = conn.create_channel
    x = ch.topic(name("topic"), auto_delete: true)
    q = ch.queue("", exclusive: true).bind(x, routing_key: "kern.#")
    %w[kern cron.info kern.a.b].each { |key| x.publish(key, routing_key: key) }
    check take(q, 2), %w[kern kern.a.b]
  end,
  rpc: lambda do |conn|
    server = conn.create_channel
    client = conn.create_channel
    requests = server.queue("", exclusive: true)
    requests.subscribe do |_info, props, body|
      server.default_exchange.publish((body.to_i * 2).to_s, routing_key: props.reply_to,
                                                            correlation_id: props.correlation_id)
    end
    replies = client.queue("", exclusive: true)
    [1, 2, 3].each do |n|
      client.default_exchange.publish(n.to_s, routing_key: requests.name, reply_to: replies.name,
                                              correlation_id: n.to_s)
    end
    check take(replies, 3), %w[2 4 6]
  end,
  confirms: lambda do |conn|
    ch = conn.create_channel
    ch.confirm_select
    q = ch.queue(name("confirms"), durable: true)
    200.times { |n| q.publish(n.to_s, persistent: true) }
    check ch.wait_for_confirms, true
    check q.message_count, 200
    returned = Queue.new
    x = ch.direct(name("returns"), auto_delete: true)
    x.on_return { |info, _props, _body| returned << info.reply_code }
    x.publish("m", routing_key: name("nowhere"), mandatory: true)
    check returned.pop, 312
    q.delete
  end,
  stream: lambda do |conn|
    ch = conn.create_channel
    ch.confirm_select
    q = ch.queue(name("stream"), durable: true, arguments: { "x-queue-type" => "stream" })
    headers = { "text" => "plain", "n" => 5, "yes" => true }
    20.times { |n| q.publish(n.to_s, headers: headers) }
    check ch.wait_for_confirms, true
    [["first", 0], [15, 15]].each do |offset, first|
      reader = conn.create_channel
      reader.prefetch(5)
      got = Queue.new
      reader.queue(q.name, durable: true, arguments: { "x-queue-type" => "stream" })
            .subscribe(manual_ack: true, arguments: { "x-stream-offset" => offset }) do |info, props, body|
        got << [props.headers, body]
        reader.ack(info.delivery_tag)
      end
      (first...20).each { |n| check got.pop, [headers.merge("x-stream-offset" => n), n.to_s] }
      reader.close
    end
    q.delete
  end,
  errors: lambda do |conn|
    begin
      conn.create_channel.queue(name("none"), passive: true)
      raise "no error"
    rescue Bunny::NotFound => error
      check error.channel_close.reply_code, 404
      check error.channel_close.reply_text, "NOT_FOUND - no queue '#{name('none')}' in vhost '/'"
    end
  end,
  properties: lambda do |conn|
    ch = conn.create_channel
    q = ch.queue("", exclusive: true)
    headers = { "text" => "plain", "n" => 5, "big" => 1 << 40, "yes" => true, "none" => nil, "list" => [1, "a"],
                "table" => { "k" => "v" } }
    q.publish("x" * 300_000, headers: headers, message_id: "m", priority: 3)
    message = nil
    message = q.pop until message && message[2]
    check message[1].headers, headers
    check [message[2].size, message[1].message_id, message[1].priority], [300_000, "m", 3]
  end,
}.freeze

$stdout.sync = true
conn = Bunny.new(URL, automatically_recover: false)
conn.start
PATTERNS.each do |label, pattern|
  Timeout.timeout(45) { pattern.call(conn) }
  puts "ok #{label}"
end
conn.close
