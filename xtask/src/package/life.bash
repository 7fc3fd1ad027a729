# The life of a package, as an administrator has it: installed, configured, started, upgraded under live connections,
# stopped, removed. Namespaces play a client and two providers. Nothing stops at a failure: what comes next may say more.
cd /payload
failed=0

expect() { # what it shows; the command that shows it
    local what=$1 output
    shift
    if output=$("$@" 2>&1); then
        echo "ok      $what"
    else
        failed=$((failed + 1))
        echo "FAILED  $what: $*"
        [ -z "$output" ] || sed 's/^/        /' <<<"$output"
    fi
}
part() { echo "== $* (at $(cut -d. -f1 /proc/uptime) s)"; }
# Times are measured elsewhere; here they only are an end of patience with an emulated processor.
within() { # seconds; a command that shall succeed in that time
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.3
    done
}
is() { [ "$1" = "$2" ] || { echo "\`$1\`, not \`$2\`"; return 1; }; }
not() { ! "$@"; }
says() { # a text; a command whose output has it
    local text=$1 output
    shift
    output=$("$@" 2>&1)
    [[ $output == *"$text"* ]] || { echo "$output"; return 1; }
}

# Everything that pcc changes on a host, but for what the kernel counts.
host() {
    ip rule; ip -6 rule
    ip route show table all; ip -6 route show table all
    ip -d address | grep -v -e valid_lft -e ' state '
    nft list ruleset
    tc qdisc
    ls -R /sys/fs/bpf
    find /run/pcc -type f 2>/dev/null
    sysctl -a -r '^net\.' 2>/dev/null | grep -v -e nf_conntrack_count -e unique -e netdev_rss_key -e tcp_fastopen_key
}
same_host() { diff /tmp/host <(host); }
# What a package leaves, but for the notes of apt, dpkg and the journal.
files() { find / -xdev \( -path /tmp -o -path /payload -o -path '/var/log' -o -path '/var/cache' -o -path '/var/lib/apt' -o -path '/var/lib/dpkg' \
    -o -path '/var/lib/systemd' \) -prune -o -print | grep -v -e '^/etc/g\?shadow-\?$' -e '^/etc/group-\?$' -e '^/etc/.pwd.lock$' | sort; }

# The router has `lan`, `wan1` and `wan2`; each provider has the same server, which says whose it is and repeats all.
world() {
    local number
    ip link set lo up
    ip netns add client
    ip link add lan type veth peer name eth0 netns client
    ip address add 10.77.0.1/24 dev lan && ip -6 address add fd77::1/64 dev lan nodad && ip link set lan up
    ip -n client address add 10.77.0.2/24 dev eth0 && ip -n client -6 address add fd77::2/64 dev eth0 nodad
    ip -n client link set lo up && ip -n client link set eth0 up
    ip -n client route add default via 10.77.0.1 && ip -n client -6 route add default via fd77::1
    for number in 1 2; do
        ip netns add isp$number
        ip link add wan$number type veth peer name eth0 netns isp$number
        ip address add 198.18.$number.2/24 dev wan$number && ip -6 address add 2001:db8:$number::2/64 dev wan$number nodad
        ip link set wan$number up
        ip -n isp$number address add 198.18.$number.1/24 dev eth0
        ip -n isp$number -6 address add 2001:db8:$number::1/64 dev eth0 nodad
        ip -n isp$number link set lo up && ip -n isp$number link set eth0 up
        ip -n isp$number address add 203.0.113.9/32 dev lo && ip -n isp$number -6 address add 2001:db8:f::9/128 dev lo
        ip route add default via 198.18.$number.1 metric $number
        ip -6 route add default via 2001:db8:$number::1 metric $number
        ip netns exec isp$number socat TCP6-LISTEN:7,fork,reuseaddr,ipv6only=0 SYSTEM:"echo isp$number; exec cat" &
    done
    sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
}

# Whose server answers a new connection.
provider() { ip netns exec client timeout 5 bash -c 'exec 3<>/dev/tcp/'$1'/7 && read -r -u3 isp && echo $isp'; }
providers() { local i; for i in 1 2 3 4 5 6 7 8; do provider 203.0.113.9; provider 2001:db8:f::9; done | sort -u | xargs; }
only() { is "$(providers)" "$1"; }

# A connection that talks up to five times a second until told to stop, and writes down with whom, how often, and the longest
# pause.
talk() { # number, server
    ip netns exec client bash -c '
        exec 3<>/dev/tcp/'$2'/7 && read -r -t 10 -u3 isp || exit 1
        echo $isp >/tmp/talk'$1'.isp
        count=0 worst=0
        while [ ! -e /tmp/hush ]; do
            begin=${EPOCHREALTIME/./}
            echo $count >&3 && read -r -t 20 -u3 answer && [ "$answer" = $count ] || { echo "broken after $count" >/tmp/talk'$1'; exit 1; }
            took=$((${EPOCHREALTIME/./} - begin))
            [ $took -le $worst ] || worst=$took
            count=$((count + 1))
            echo "$count $((worst / 1000))" >/tmp/talk'$1'
            # Nothing else is said; that is a pause without a process.
            read -r -t 0.2 -u3 && exit 1
        done'
}
talkers="1 2 3 4 5 6 7 8 9 10 11 12"
start_talking() {
    local number servers=(203.0.113.9 2001:db8:f::9)
    rm -f /tmp/hush /tmp/talk*
    for number in $talkers; do
        # Who waits for our output does not wait for them.
        talk $number ${servers[number % 2]} >/dev/null 2>&1 &
    done
    within 60 all_talk
}
all_talk() { local number; for number in $talkers; do [ -s /tmp/talk$number ] || return 1; done; }
go_on() { # each of them has been answered again
    local number before now
    for number in $talkers; do
        before=$(cut -d' ' -f1 /tmp/talk$number)
        within 60 talked_since $number $before || { echo "connection $number: $(cat /tmp/talk$number)"; return 1; }
    done
}
talked_since() { local count; count=$(cut -d' ' -f1 /tmp/talk$1); [[ $count =~ ^[0-9]+$ ]] && [ "$count" -gt "$2" ]; }
# Segments of the client's and the servers' sockets that were lost: sent again, and the other end did not say that it had them
# already, as it does of those that only were late.
lost() { for i in client isp1 isp2; do ip netns exec $i ss -tinH '( sport = :7 or dport = :7 )'; done |
    grep -o -e 'retrans:[0-9]*/[0-9]*' -e 'dsack_dups:[0-9]*' |
    awk -F '[:/]' '{ sum += /dsack/ ? -$2 : $3 } END { print sum + 0 }'; }
lost_are() { is "$(lost)" "$1"; }

pid() { systemctl show --value --property MainPID pcc; }
another_than() { [ "$(pid)" != "$1" ] && [ "$(pid)" != 0 ] && pcc status; }
version() { dpkg-query --show --showformat '${Version}' pcc; }

life_install() {
    expect "apt installs it" apt-get install --yes --no-install-recommends "$older"
    expect "it is not started" not systemctl --quiet is-active pcc
    expect "it is not enabled" is "$(systemctl is-enabled pcc)" disabled
    expect "nothing has changed on the host" same_host
    expect "there is the group" getent group pcc
    expect "dpkg knows its files unchanged" is "$(dpkg --verify pcc)" ""
    for file in /usr/share/bash-completion/completions/pcc /usr/share/zsh/vendor-completions/_pcc \
        /usr/share/fish/vendor_completions.d/pcc.fish /usr/share/man/man1/pcc.1.gz /usr/share/man/man1/pcc-run.1.gz \
        /usr/share/doc/pcc/README.md /usr/share/doc/pcc/copyright /usr/share/doc/pcc/changelog.gz; do
        expect "there is $file" test -s $file
    done
    expect "bash completes" says uplink bash -c '. /usr/share/bash-completion/completions/pcc
        COMP_WORDS=(pcc upl) COMP_CWORD=1 COMP_TYPE=9; $(complete -p pcc | sed "s/.*-F \([^ ]*\).*/\1/") pcc upl pcc; echo "${COMPREPLY[@]}"'
    expect "the configuration as it comes is refused, with what is missing" says "hint:" pcc check --config /etc/pcc/pcc.toml
    expect "and does not start" not systemctl start pcc
    # Until then systemd tries again and again.
    systemctl stop pcc
    systemctl reset-failed pcc 2>/dev/null
    expect "nothing has changed on the host" same_host
}

life_start() {
    cat >/etc/pcc/pcc.toml <<TOML
lan = ["lan"]
hash = "both-addresses-and-ports"
[[uplink]]
device = "wan1"
[[uplink]]
device = "wan2"
TOML
    expect "the configuration is sound" pcc check --config /etc/pcc/pcc.toml
    cp /etc/pcc/pcc.toml /tmp/sound.toml
    expect "it starts, and will at each boot" systemctl enable --quiet --now pcc
    systemctl --quiet is-active pcc || journalctl --unit pcc --no-pager --output cat | tail -20
    expect "it said that it is ready" is "$(systemctl is-active pcc)" active
    expect "new connections take both uplinks" only "isp1 isp2"
    expect "the exposure of the service is 2.5 at most" systemd-analyze security --no-pager --threshold=25 pcc
    systemd-analyze security --no-pager pcc | tail -1
}

life_reload() {
    sed -i '0,/^device = "wan1"/s//&\nweight = 5/' /etc/pcc/pcc.toml
    expect "it reloads" systemctl reload pcc
    expect "the new weight is in force" says '"weight":5' bash -c 'pcc status --json | tr -d " "'
    echo 'nonsense = 1' >/etc/pcc/pcc.toml
    expect "a faulty configuration is refused" not systemctl reload pcc
    expect "and the service goes on" is "$(systemctl is-active pcc)" active
    cp /tmp/sound.toml /etc/pcc/pcc.toml
    expect "the first one is taken back" systemctl reload pcc
}

life_upgrade() {
    expect "twelve connections talk" start_talking
    expect "over both uplinks" is "$(sort -u /tmp/talk*.isp | xargs)" "isp1 isp2"
    before=$(pid) lost=$(lost)
    sleep 2
    usual=$(cut -d' ' -f2 /tmp/talk{?,??} | sort -n | tail -1)
    expect "dpkg upgrades it" dpkg --install "$newer"
    expect "the newer version is there" is "$(version)" "$(dpkg-deb --field "$newer" Version)"
    expect "the service runs" within 60 systemctl --quiet is-active pcc
    expect "it is another process" not is "$(pid)" "$before"
    expect "which adopted the data path" says "adopted the running data path" journalctl --unit pcc --no-pager
    expect "every connection goes on" go_on
    expect "no segment was lost" within 60 lost_are "$lost"
    echo "        longest pause: $(cut -d' ' -f2 /tmp/talk{?,??} | sort -n | tail -1) ms, before the upgrade $usual ms"
    expect "new connections take both uplinks" only "isp1 isp2"
}

life_crash() {
    before=$(pid)
    kill -KILL "$before"
    expect "systemd starts it again" within 120 another_than "$before"
    expect "every connection goes on" go_on
    touch /tmp/hush
    ip -n isp1 link set eth0 down
    expect "without carrier an uplink gets no new connections" within 60 only isp2
    ip -n isp1 link set eth0 up
    ip -n isp1 -6 address add 2001:db8:1::1/64 dev eth0 nodad 2>/dev/null
    expect "and it comes back" within 120 only "isp1 isp2"
}

life_stop() {
    expect "it stops" systemctl stop pcc
    expect "the host is as before" same_host
    expect "it starts again" systemctl start pcc
    expect "new connections take both uplinks" only "isp1 isp2"
}

life_remove() {
    touch /tmp/hush
    expect "apt removes it while it runs" apt-get remove --yes pcc
    expect "the host is as before" same_host
    expect "nothing runs" not pgrep -x pcc
    expect "the unit is gone" not systemctl cat pcc
    expect "the configuration stays" test -e /etc/pcc/pcc.toml
    expect "apt purges it" apt-get purge --yes pcc
    expect "no file is left" diff /tmp/files <(files)
}

life_tarball() {
    expect "it is unpacked" tar -xzf /payload/*.tar.gz -C /usr/local --strip-components=1
    systemctl daemon-reload
    systemd-sysusers
    mkdir -p /etc/pcc && cp /tmp/sound.toml /etc/pcc/pcc.toml
    expect "it starts" systemctl start pcc
    expect "from where it was unpacked" is "$(readlink "/proc/$(pid)/exe")" /usr/local/bin/pcc
    expect "new connections take both uplinks" only "isp1 isp2"
    expect "it stops" systemctl stop pcc
    expect "the host is as before" same_host
}

part "Debian $(cat /etc/debian_version), Linux $(uname -r), $(systemctl --version | head -1)"
timeout 120 systemctl is-system-running --wait
# Brings the settings that a firewall's host has; all other modules come when the service needs them.
modprobe nf_conntrack
# Signs of life come late where each instruction is translated and the processor is shared.
mkdir -p /run/systemd/system/pcc.service.d
printf '[Service]\nWatchdogSec=10min\n' >/run/systemd/system/pcc.service.d/slow.conf
world
sleep 2
files >/tmp/files
host >/tmp/host
older=$(ls /payload/pcc_*-1_amd64.deb) newer=$(ls /payload/pcc_*-2_amd64.deb)

for name in install start reload upgrade crash stop remove tarball; do
    part "$name"
    "life_$name"
done

part "$failed failed"
[ $failed = 0 ] || { journalctl --unit pcc --no-pager | tail -60; exit 1; }
