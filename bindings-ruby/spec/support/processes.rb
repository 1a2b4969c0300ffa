# frozen_string_literal: true

require "rbconfig"
require "socket"

# Starts and ends processes for the specs. Each is ended by its own id.
module Processes
  # A bound against hangs, not a measure.
  PATIENCE = 60

  # Waits until the block returns something true, and returns that.
  def wait_until(what)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + PATIENCE
    loop do
      result = yield
      return result if result
      raise "waited #{PATIENCE} s in vain until #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep 0.01
    end
  end
  module_function :wait_until

  def free_port
    TCPServer.open("127.0.0.1", 0) { |server| server.addr[1] }
  end
  module_function :free_port

  # Runs the block in a forked child and waits for its success.
  def in_child(&block)
    _, status = Process.wait2(fork(&block))
    raise "the child failed: #{status}" unless status.success?
  end

  # Runs Ruby code in a new process; returns its output, standard error included, and its status.
  def run_ruby(code, environment = {})
    output = IO.popen(environment, [RbConfig.ruby, "-I", File.expand_path("../../lib", __dir__), "-e", code,
                                    { err: %i[child out] }], &:read)
    [output, $?]
  end

  # A store of each kind that processes share.
  def shared_stores
    { "shared memory" => "shm://#{@directory}/metrics", "Redis" => RedisServer.fresh_url }
  end
end
