# Two uplinks and one LAN on RouterOS 7: connections are spread evenly, what comes in on an uplink is answered by it, and
# when the gateway of one is dead the other takes over. Unmarked traffic prefers `fibre`.

/interface ethernet
set [ find default-name=ether1 ] name=fibre
set [ find default-name=ether2 ] name=cable
set [ find default-name=ether3 ] name=lan

/ip address
add address=198.18.1.2/24 interface=fibre
add address=198.18.2.2/24 interface=cable
add address=192.0.2.1/24 interface=lan

/routing table
add name=to-fibre fib
add name=to-cable fib

# A dead gateway is noticed within two seconds; RouterOS asks every ten seconds otherwise.
/routing settings
set check-gateway-ping-interval=500ms check-gateway-ping-timeout=500ms

# Networks that no ISP leads to: they stay out of the marked tables.
/ip firewall address-list
add list=connected address=198.18.1.0/24
add list=connected address=198.18.2.0/24
add list=connected address=192.0.2.0/24

/ip firewall mangle
add chain=prerouting in-interface=lan dst-address-list=connected action=accept comment="not balanced"

# In prerouting, so that connections to port-forwarded hosts are marked too.
add chain=prerouting in-interface=fibre connection-mark=no-mark action=mark-connection \
    new-connection-mark=by-fibre comment="inbound on fibre"
add chain=prerouting in-interface=cable connection-mark=no-mark action=mark-connection \
    new-connection-mark=by-cable comment="inbound on cable"

# no-mark: a connection is hashed once, and answers to inbound ones keep their mark.
add chain=prerouting in-interface=lan connection-mark=no-mark dst-address-type=!local \
    per-connection-classifier=both-addresses:2/0 action=mark-connection new-connection-mark=by-fibre comment="half"
add chain=prerouting in-interface=lan connection-mark=no-mark dst-address-type=!local \
    per-connection-classifier=both-addresses:2/1 action=mark-connection new-connection-mark=by-cable comment="other half"

add chain=prerouting in-interface=lan connection-mark=by-fibre action=mark-routing new-routing-mark=to-fibre passthrough=no
add chain=prerouting in-interface=lan connection-mark=by-cable action=mark-routing new-routing-mark=to-cable passthrough=no

# The router's own answers.
add chain=output connection-mark=by-fibre action=mark-routing new-routing-mark=to-fibre passthrough=no
add chain=output connection-mark=by-cable action=mark-routing new-routing-mark=to-cable passthrough=no

/ip route
add gateway=198.18.1.1 check-gateway=ping routing-table=to-fibre comment="fibre"
add gateway=198.18.2.1 check-gateway=ping distance=2 routing-table=to-fibre comment="backup of fibre"
add gateway=198.18.2.1 check-gateway=ping routing-table=to-cable comment="cable"
add gateway=198.18.1.1 check-gateway=ping distance=2 routing-table=to-cable comment="backup of cable"
add gateway=198.18.1.1 check-gateway=ping distance=1 comment="unmarked"
add gateway=198.18.2.1 check-gateway=ping distance=2 comment="unmarked, backup"

/ip firewall nat
add chain=srcnat out-interface=fibre action=masquerade
add chain=srcnat out-interface=cable action=masquerade
