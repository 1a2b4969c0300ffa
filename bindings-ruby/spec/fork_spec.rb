# frozen_string_literal: true

RSpec.describe "Forked processes" do
  # Counts in a child until it is killed at some moment. After each increment the child writes a byte: what
  # was counted is then known from outside, but for the one increment that the kill may have interrupted.
  def count_until_killed(counter, backend, confirmed)
    reader, writer = IO.pipe
    child = fork do
      reader.close
      loop do
        counter.increment(labels: { worker: Process.pid })
        backend.flush if confirmed == :by_flush
        writer.write("x")
      end
    end
    writer.close
    yield
    Process.kill(:KILL, child)
    Process.wait(child)
    [child, reader.read.size]
  end

  ["shared memory", "Redis"].each do |kind|
    context "with #{kind}" do
      let(:url) { shared_stores.fetch(kind) }
      let(:backend) { PytheusBackend.open(url) }
      let(:counter) { backend.counter("work_total", "Work.", labels: [:worker]) }

      it "count with the handles of their parent, and all are in every scrape" do
        shared = counter.with_labels(worker: "all")
        shared.increment
        4.times.map { fork { 1000.times { shared.increment } } }.each { |child| Process.wait(child) }
        expect(shared.get).to eq 4001
        in_child { exit(false) unless shared.get == 4001 }
      end

      it "lose nothing that was counted or sent when they are killed at any moment" do
        confirmed = kind == "Redis" ? :by_flush : :by_increment
        before = counter.with_labels(worker: "parent")
        5.times do |round|
          before.increment
          child, acknowledged = count_until_killed(counter, backend, confirmed) { sleep(0.02 * (round + 1)) }
          counted = counter.values.fetch({ worker: child.to_s }, 0)
          expect(counted).to be_between(acknowledged, acknowledged + 1)
        end
        expect(before.get).to eq 5
      end

      it "make label sets of their own while others do, in threads too" do
        counter # declared before the fork
        children = Array.new(4) do |number|
          fork do
            threads = Array.new(2) do
              Thread.new { 50.times { |i| counter.increment(labels: { worker: "#{number % 2}-#{i}" }) } }
            end
            threads.each(&:join)
          end
        end
        children.each { |child| Process.wait(child) }
        expect(counter.values.values).to eq [4.0] * 100
      end

      it "count as daemons" do
        shared = counter.with_labels(worker: "daemon")
        in_child do
          Process.daemon(true, true)
          shared.increment
          backend.flush
        end
        wait_until("the daemon has counted") { shared.get == 1 }
      end

      it "send what they have counted when they end normally, and nothing of their parent's" do
        counter.increment(labels: { worker: "parent" })
        in_child { counter.increment(by: 2, labels: { worker: "child" }); exit }
        expect(counter.values.transform_keys { |labels| labels[:worker] }).to eq("parent" => 1.0, "child" => 2.0)
      end
    end
  end
end
