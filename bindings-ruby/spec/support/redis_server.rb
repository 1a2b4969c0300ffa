# frozen_string_literal: true

require "tmpdir"

# One redis-server of these specs' own, on a free port of the loopback, started when it is first needed.
class RedisServer
  class << self
    # The URL of the server, with an empty database.
    def fresh_url
      @server ||= new
      @server.command("FLUSHALL")
      "redis://127.0.0.1:#{@server.port}"
    end

    def stop
      @server&.stop
      @server = nil
    end
  end

  attr_reader :port, :pid

  def initialize
    @port = Processes.free_port
    @directory = Dir.mktmpdir("pytheus-backend-redis-")
    @owner = Process.pid
    log = File.join(@directory, "log")
    @pid = spawn("redis-server", "--port", @port.to_s, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                 "--dir", @directory, in: :close, out: log, err: log)
    Processes.wait_until("redis-server on port #{@port} answers") { command("PING") == "+PONG" }
  end

  # Sends one command without arguments; returns the first line of the reply, or nil if there is no server.
  def command(name)
    TCPSocket.open("127.0.0.1", @port) do |socket|
      socket.write("#{name}\r\n")
      socket.gets&.chomp
    end
  rescue SystemCallError
    nil
  end

  # Suspends the server during the block: its connections stay open, but it does not answer.
  def paused
    Process.kill(:STOP, @pid)
    yield
  ensure
    Process.kill(:CONT, @pid)
  end

  def stop
    return if @owner != Process.pid # the server of a forked child's parent

    Process.kill(:KILL, @pid)
    Process.wait(@pid)
    FileUtils.remove_entry(@directory)
  end
end
