# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pytheus_backend_rs_global_optspecs
	string join \n h/help V/version
end

function __fish_pytheus_backend_rs_needs_command
	# Figure out if the current invocation already has a command.
	set -l cmd (commandline -opc)
	set -e cmd[1]
	argparse -s (__fish_pytheus_backend_rs_global_optspecs) -- $cmd 2>/dev/null
	or return
	if set -q argv[1]
		# Also print the command, so this can be used to figure out what it is.
		echo $argv[1]
		return 1
	end
	return 0
end

function __fish_pytheus_backend_rs_using_subcommand
	set -l cmd (__fish_pytheus_backend_rs_needs_command)
	test -z "$cmd"
	and return 1
	contains -- $cmd[1] $argv
end

complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -s h -l help -d 'Print help'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -s V -l version -d 'Print version'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -f -a "serve" -d 'Serve the metrics over HTTP, for Prometheus to scrape'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -f -a "dump" -d 'Print the metrics once, as text for Prometheus'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -f -a "top" -d 'Show live values and rates in the terminal'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -f -a "check" -d 'Say whether the store is sound: read all of it, and name what is wrong'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -f -a "migrate" -d 'Move histograms and summaries of pytheus-backend-rs 0.0.9, and of pytheus\' own Redis backend, to this layout'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_needs_command" -f -a "push" -d 'Send the metrics to a Pushgateway once, for jobs that end before Prometheus scrapes them'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -s s -l store -d 'Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several stores as one, if no two have a metric family of one name. Default: what the environment variable PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a password, since everybody on the machine can see the arguments of a command' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -l allowed-host -d 'A host name by which clients may ask, without a port; others get 421. Repeat it for several. Default: every name' -r -f -a "(__fish_print_hostnames)"
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -s l -l listen -d 'Where to serve: 127.0.0.1:9464, [::1]:9464, localhost:9464, or :9464 for every IPv4 address of the machine; port 0 is a free one, which is printed. unix:/path is a Unix socket, which replaces one that no process serves. A socket that systemd passes is used instead' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -l socket-mode -d 'The permissions of the Unix socket, in octal digits: who may write to it may connect' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -l web.config.file -d 'TLS and basic authentication, in the format of the web configuration of Prometheus\' exporters: tls_server_config and basic_auth_users' -r -F
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -s v -l verbose -d 'Tell more about what happens, on stderr'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -l created-samples -d 'Show in OpenMetrics when each counter, summary and histogram began, as samples "_created", which Prometheus stores as series of their own; protobuf shows it always'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -l process-metrics -d 'Show this process too: its processor time, memory and descriptors, as pytheus_side_car_process_…'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand serve" -s h -l help -d 'Print help'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -s s -l store -d 'Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several stores as one, if no two have a metric family of one name. Default: what the environment variable PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a password, since everybody on the machine can see the arguments of a command' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -s f -l format -d 'Prometheus text 0.0.4, or OpenMetrics 1.0.0' -r -f -a "text\t''
openmetrics\t''"
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -s n -l name -d 'Only metric families with this in their name; with * (any text) or ? (any character) the pattern is for the whole name' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -s o -l output -d 'Write to this file, which is replaced as a whole and readable by all users; a failure leaves the old one. In the folder of node_exporter\'s textfile collector its name ends in .prom' -r -F
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -s v -l verbose -d 'Tell more about what happens, on stderr'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -l json -d 'Print a list of the metric families: name, type, help and series, each with its labels and values. A number that is not finite is the text NaN, +Inf or -Inf'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand dump" -s h -l help -d 'Print help'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand top" -s s -l store -d 'Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several stores as one, if no two have a metric family of one name. Default: what the environment variable PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a password, since everybody on the machine can see the arguments of a command' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand top" -s i -l interval -d 'Time between two scrapes' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand top" -s c -l count -d 'End after so many tables' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand top" -s v -l verbose -d 'Tell more about what happens, on stderr'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand top" -l json -d 'Print each table as a list on one line, with series, value, rate, mean, p50 and p99 of each row; what is unknown is null. It ends after one unless --count says otherwise'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand top" -s h -l help -d 'Print help'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand check" -s s -l store -d 'Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several stores as one, if no two have a metric family of one name. Default: what the environment variable PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a password, since everybody on the machine can see the arguments of a command' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand check" -s v -l verbose -d 'Tell more about what happens, on stderr'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand check" -l json -d 'Print an object: sound is true or false; facts, faults and leftovers are lists of sentences; writers is a list of processes'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand check" -s h -l help -d 'Print help'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand migrate" -s s -l store -d 'Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several stores as one, if no two have a metric family of one name. Default: what the environment variable PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a password, since everybody on the machine can see the arguments of a command' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand migrate" -s v -l verbose -d 'Tell more about what happens, on stderr'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand migrate" -s h -l help -d 'Print help'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -s s -l store -d 'Where the values are: the path of a metrics file, or shm:///path, redis://[user[:password]@]host[:port][/db], or redis+unix:///path of a socket, with options such as key_prefix in the query. Repeat it to read several stores as one, if no two have a metric family of one name. Default: what the environment variable PYTHEUS_BACKEND_RS_STORE says, one URL or several with spaces between them; it is the place for a URL with a password, since everybody on the machine can see the arguments of a command' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -s g -l gateway -d 'The gateway: http://host:9091 or https://host. Default: what the environment variable PYTHEUS_BACKEND_RS_GATEWAY says, which is the place for a URL with user:password@ before the host' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -s j -l job -d 'The label "job" of the metrics in the gateway' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -s l -l label -d 'A further label, such as instance=web-1. Repeat it for several' -r -f
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -l ca-certs -d 'Certificates to trust, instead of those of the system' -r -F
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -s v -l verbose -d 'Tell more about what happens, on stderr'
complete -c pytheus-backend-rs -n "__fish_pytheus_backend_rs_using_subcommand push" -s h -l help -d 'Print help'
