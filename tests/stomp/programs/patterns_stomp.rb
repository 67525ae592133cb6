# The Ruby gem stomp, unmodified: ruby patterns_stomp.rb HOST PORT QUEUE; prints "ok NAME" per pattern.
require 'stomp'
require 'timeout'

host, port, name = ARGV
open = lambda do |version|
  Stomp::Connection.new(hosts: [{ login: 'guest', passcode: 'guest', host: host, port: port.to_i }], reliable: false,
                        connect_headers: { 'accept-version' => version, 'host' => '/', 'heart-beat' => '0,0' })
end

Timeout.timeout(40) do
  %w[1.0 1.1 1.2].each do |version|
    c = open.call(version)
    raise c.protocol unless c.protocol == version
    queue = "/queue/#{name}-#{version}"
    c.subscribe(queue, { 'ack' => 'client', 'id' => 's1' }, 's1')
    10.times { |n| c.publish(queue, "body #{n}", { 'n' => n.to_s, 'persistent' => 'true' }) }
    10.times do |n|
      m = c.receive
      raise m.inspect unless m.body == "body #{n}" && m.headers['n'] == n.to_s
      if version == '1.2'
        c.ack(m.headers['ack'])
      else
        c.ack(m.headers['message-id'], 'subscription' => 's1')
      end
    end
    puts "ok work_queue #{version}"
    c.begin('t')
    c.publish(queue, 'in a transaction', { 'transaction' => 't' })
    c.commit('t')
    m = c.receive
    raise m.inspect unless m.body == 'in a transaction'
    puts "ok transaction #{version}"
    c.disconnect
    puts "ok disconnect #{version}"
  end
  c = Stomp::Connection.new(hosts: [{ login: 'guest', passcode: 'wrong', host: host, port: port.to_i }], reliable: false,
                            connect_headers: { 'accept-version' => '1.2', 'host' => '/' })
  frame = c.connection_frame
  raise frame.inspect unless frame.command == 'ERROR' && frame.headers['message'] == 'Bad CONNECT'
  puts 'ok errors'
end
