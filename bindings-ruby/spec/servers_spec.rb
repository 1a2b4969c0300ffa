# frozen_string_literal: true

require "net/http"

RSpec.describe "Forking servers" do
  workers = 3
  config_ru = File.expand_path("../../examples/ruby/config.ru", __dir__)
  library = File.expand_path("../lib", __dir__)

  # Starts `program` with its configuration and the application; returns its process id.
  def start(program, port, configuration, rackup, library, store)
    file = File.join(@directory, "server.rb")
    File.write(file, configuration)
    log = File.join(@directory, "log")
    arguments = program == "puma" ? ["-C", file, rackup] : ["-c", file, rackup]
    spawn({ "STORE_URL" => store, "RUBYLIB" => library }, program, *arguments, in: :close, out: log, err: log)
  end

  def get(path)
    Net::HTTP.start("127.0.0.1", @port, open_timeout: 5, read_timeout: 60) { |http| http.get(path).body }
  end

  def counted
    get("/metrics")[%r{^http_server_requests_total\{code="200",method="get",path="/work"\} (\d+)$}, 1].to_i
  end

  # Returns the id of the worker that answers another path, or nil while the server replaces itself.
  def worker
    get("/other")[/\Aworker (\d+)$/, 1].to_i
  rescue SystemCallError, EOFError
    nil
  end

  # Makes requests in four threads; returns the ids of the workers that answered.
  def work(requests)
    @requests = @requests.to_i + requests
    threads = Array.new(4) { Thread.new { Array.new(requests / 4) { get("/work")[/\Aworker (\d+)$/, 1] } } }
    threads.flat_map(&:value).uniq.map { |id| Integer(id) }
  end

  puma = <<~RUBY
    bind "tcp://127.0.0.1:%<port>d"
    workers %<workers>d
    threads 1, 2
  RUBY
  unicorn = <<~RUBY
    listen "127.0.0.1:%<port>d"
    worker_processes %<workers>d
  RUBY
  # The signal has the server replace all workers; a preloading Puma replaces itself by exec.
  [
    ["puma", "shared memory", "#{puma}preload_app!", :USR2],
    ["puma", "shared memory", puma, :USR1],
    ["puma", "Redis", "#{puma}preload_app!", :USR2],
    ["unicorn", "shared memory", "#{unicorn}preload_app true", :HUP],
    ["unicorn", "Redis", "#{unicorn}preload_app true", :HUP]
  ].each do |program, kind, configuration, reload|
    context "like #{program}, #{configuration.include?("preload") ? "preloading" : "not preloading"}, with #{kind}" do
      it "show one exact total through a killed worker and a reload" do
        @port = free_port
        server = start(program, @port, format(configuration, port: @port, workers: workers), config_ru, library,
                       shared_stores.fetch(kind))
        begin
          wait_until("#{program} answers: #{File.join(@directory, "log")}") { get("/metrics") rescue nil }
          answered = work(200)
          # With Redis the last of it arrives some milliseconds after the answer; a file has it before.
          wait_until("all is sent") { counted == @requests } if kind == "Redis"
          expect(counted).to eq @requests

          Process.kill(:KILL, answered.first)
          wait_until("another worker takes its place") { (work(40) - answered).any? }
          answered = work(40)
          wait_until("all is sent") { counted == @requests } if kind == "Redis"
          expect(Array.new(20) { counted }.uniq).to eq [@requests] # whichever worker answers

          Process.kill(reload, server)
          wait_until("new workers alone answer") do
            ids = Array.new(20) { worker }
            ids.all? && (ids & answered).empty?
          end
          work(40)
          wait_until("all is sent") { counted == @requests } if kind == "Redis"
          expect(Array.new(20) { counted }.uniq).to eq [@requests]
        ensure
          Process.kill(:TERM, server)
          Process.wait(server)
        end
      end
    end
  end
end
