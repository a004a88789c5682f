"""One host over a real sshd: host keys, logins, commands, files, and what happens when it goes away."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from private_sshd import USER, Server, free_port, inventory, make_key

from swarmscope.cluster.remote import Remote, RemoteTimeout
from swarmscope.cluster.route import Setting, resolve
from swarmscope.cluster.shell import Command, Raw, Secret
from swarmscope.errors import HostLost, HostUnreachable, RemoteFailed
from swarmscope.model import Host


@pytest.fixture
def remote(shared_server: Server) -> Iterator[Remote]:
    with Remote(
        shared_server.host(), inventory(shared_server.host(), known_hosts=shared_server.known_hosts())
    ) as made:
        yield made


def refused(server: Server, known_hosts: Path | None, **changes: object) -> HostUnreachable:
    host = server.host(**changes)
    with pytest.raises(HostUnreachable) as caught:
        Remote(host, inventory(host, known_hosts=known_hosts), connect_timeout=3).open()
    return caught.value


class TestHostKeys:
    def test_an_unknown_key_is_refused_and_not_added(self, shared_server: Server, own_home: Path) -> None:
        error = refused(shared_server, None)
        assert "unknown host key" in error.message
        assert "SHA256:" in error.message
        assert "ssh 127.0.0.1" in error.hint
        assert not (own_home / ".ssh/known_hosts").exists()

    def test_a_changed_key_is_refused(self, shared_server: Server, tmp_path: Path) -> None:
        other = make_key(tmp_path / "other")
        key = " ".join(other.with_suffix(".pub").read_text().split()[:2])
        known = tmp_path / "known"
        known.write_text(f"[127.0.0.1]:{shared_server.port} {key}\n")
        error = refused(shared_server, known)
        assert "changed host key" in error.message
        assert known.read_text().count("\n") == 1

    def test_a_revoked_key_is_refused_though_it_is_also_listed(
        self, shared_server: Server, tmp_path: Path
    ) -> None:
        known = tmp_path / "known"
        known.write_text(shared_server.known() + "@revoked * " + shared_server.host_key + "\n")
        assert "revoked host key" in refused(shared_server, known).message

    @pytest.mark.parametrize(
        "before", ["@cert-authority *.lab {key}", "[127.0.0.1]:{port} ssh-ed25519 !!", "junk"]
    )
    def test_lines_that_stop_other_readers_do_not_hide_the_key(
        self, shared_server: Server, tmp_path: Path, before: str
    ) -> None:
        known = tmp_path / "known"
        line = before.format(key=shared_server.host_key, port=shared_server.port)
        known.write_text(line + "\n" + shared_server.known())
        with Remote(shared_server.host(), inventory(known_hosts=known)) as remote:
            assert remote.run(Command("true")).ok

    def test_hashed_names_and_patterns_are_understood(self, shared_server: Server, tmp_path: Path) -> None:
        known = tmp_path / "known"
        known.write_text(shared_server.known())
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known)], check=True, capture_output=True)
        assert known.read_text().startswith("|1|")
        Remote(shared_server.host(), inventory(known_hosts=known)).open()
        known.write_text(shared_server.known("127.0.0.?"))
        Remote(shared_server.host(), inventory(known_hosts=known)).open()

    def test_the_users_own_known_hosts_counts_where_the_inventory_names_none(
        self, shared_server: Server, own_home: Path
    ) -> None:
        (own_home / ".ssh/known_hosts").write_text(shared_server.known())
        Remote(shared_server.host(), inventory(known_hosts=None)).open()

    def test_the_jump_host_is_verified_too(self, serve: Callable[..., Server], own_home: Path) -> None:
        jump, target = serve(), serve()
        (own_home / ".ssh/config").write_text(
            f"Host behind\n  Hostname 127.0.0.1\n  Port {target.port}\n  IdentityFile {target.client_key}\n"
            f"  ProxyJump localhost:{jump.port}\n"
            f"Host *\n  IdentityFile {jump.client_key}\n"
        )
        host = replace(target.host(), address="behind", port=None, identity_file=None)
        known = own_home / "known"
        known.write_text(target.known())
        with pytest.raises(HostUnreachable, match=f"unknown host key for .localhost.:{jump.port}"):
            Remote(host, inventory(known_hosts=known)).open()
        known.write_text(target.known() + jump.known(f"[localhost]:{jump.port}"))
        with Remote(host, inventory(known_hosts=known)) as remote:
            assert remote.run(Command("echo", "through")).stdout == "through\n"
        assert "Accepted publickey" in jump.log


class TestTheInventorysOwnSshConfig:
    """``swarmscope_ssh_config``: read in place of the user's, as by ``ssh -F``; keys of the inventory win."""

    def bare(self, server: Server, address: str = "n1") -> Host:
        """A host of whom the inventory knows nothing but a name."""
        return server.host(address=address, port=None, user=None, identity_file=None)

    def config(self, server: Server, folder: Path, *more: str, name: str = "n1") -> Path:
        path = folder / "a config"
        lines = [f"Host {name}", "HostName 127.0.0.1", f"Port {server.port}", f"User {USER}"]
        lines += [f'IdentityFile "{server.client_key}"', f'UserKnownHostsFile "{server.known_hosts()}"']
        path.write_text("\n".join([*lines, *more]) + "\n")
        return path

    def test_everything_about_a_host_may_stand_in_it(self, shared_server: Server, tmp_path: Path) -> None:
        used = self.config(shared_server, tmp_path)
        with Remote(self.bare(shared_server), inventory(known_hosts=None, ssh_config=used)) as remote:
            assert remote.run(Command("echo", "in")).stdout == "in\n"

    def test_the_users_own_is_then_not_read(
        self, shared_server: Server, tmp_path: Path, own_home: Path
    ) -> None:
        self.config(shared_server, tmp_path).rename(own_home / ".ssh/config")
        Remote(self.bare(shared_server), inventory(known_hosts=None)).open()
        other = tmp_path / "other"
        other.write_text("Host elsewhere\n")
        with pytest.raises(HostUnreachable, match="n1 not found"):
            Remote(self.bare(shared_server), inventory(known_hosts=None, ssh_config=other)).open()

    def test_keys_of_the_inventory_win_over_it(self, shared_server: Server, tmp_path: Path) -> None:
        used = tmp_path / "config"
        stranger = make_key(tmp_path / "stranger")
        used.write_text(f"Host *\nPort {free_port()}\nUser nobody\nIdentityFile {stranger}\n")
        host = shared_server.host(
            origin={"port": "lab.yml:3", "user": "lab.yml:4", "identity_file": "lab.yml:5"}
        )
        hosts = inventory(host, known_hosts=shared_server.known_hosts(), ssh_config=used)
        Remote(host, hosts).open()
        route = resolve(host, hosts)
        assert route.port == Setting(str(shared_server.port), "lab.yml:3")
        assert route.user == Setting(USER, "lab.yml:4")
        assert route.identity == Setting(str(shared_server.client_key), "lab.yml:5")

    def test_where_a_value_came_from_names_the_file(self, shared_server: Server, tmp_path: Path) -> None:
        used = self.config(shared_server, tmp_path, "ProxyJump gate:2222")
        host = self.bare(shared_server)
        route = resolve(host, inventory(host, known_hosts=None, ssh_config=used))
        assert route.address == Setting("127.0.0.1", f"{used}, for n1")
        assert route.port == Setting(str(shared_server.port), str(used))
        assert route.identity == Setting(str(shared_server.client_key), str(used))
        assert route.proxyjump == Setting(f"{USER}@gate:2222", str(used))

    def test_a_jump_host_of_it_is_gone_through_and_verified(
        self, serve: Callable[..., Server], tmp_path: Path
    ) -> None:
        jump, target = serve(), serve()
        used = self.config(target, tmp_path, f"ProxyJump localhost:{jump.port}")
        known = tmp_path / "known of the jump host"
        known.write_text(jump.known(f"[localhost]:{jump.port}"))
        with used.open("a") as file:
            file.write(f'Host localhost\nIdentityFile {jump.client_key}\nUserKnownHostsFile "{known}"\n')
        with Remote(self.bare(target), inventory(known_hosts=None, ssh_config=used)) as remote:
            assert remote.run(Command("echo", "through")).stdout == "through\n"
        assert "Accepted publickey" in jump.log
        known.write_text(target.known(f"[localhost]:{jump.port}"))
        with pytest.raises(HostUnreachable, match=r"changed host key for .localhost"):
            Remote(self.bare(target), inventory(known_hosts=None, ssh_config=used)).open()

    def test_hints_name_it(self, shared_server: Server, tmp_path: Path) -> None:
        used = self.config(shared_server, tmp_path)
        shared_server.known_hosts().write_text("")
        with pytest.raises(HostUnreachable, match="unknown host key") as caught:
            Remote(self.bare(shared_server), inventory(known_hosts=None, ssh_config=used)).open()
        assert f"ssh -F '{used}' n1" in caught.value.hint

    def test_one_that_cannot_be_read_as_such_is_named(self, shared_server: Server, tmp_path: Path) -> None:
        broken = tmp_path / "broken"
        broken.write_text("Host\n")
        with pytest.raises(HostUnreachable, match=f"{broken} cannot be used"):
            Remote(self.bare(shared_server), inventory(known_hosts=None, ssh_config=broken))


class TestLogin:
    def test_a_closed_port_is_said_within_three_seconds(self, shared_server: Server) -> None:
        started = time.monotonic()
        error = refused(shared_server, shared_server.known_hosts(), port=free_port())
        assert "connection refused" in error.message
        assert error.exit_code == 5
        assert time.monotonic() - started < 3

    def test_a_server_that_says_nothing_times_out(self, shared_server: Server) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            started = time.monotonic()
            refused(shared_server, shared_server.known_hosts(), port=port)
            assert time.monotonic() - started < 8

    def test_a_wrong_key_is_named_as_a_refused_login(self, shared_server: Server, tmp_path: Path) -> None:
        error = refused(
            shared_server, shared_server.known_hosts(), identity_file=make_key(tmp_path / "stranger")
        )
        assert "was refused" in error.message

    def test_a_missing_identity_file_is_named(self, shared_server: Server, tmp_path: Path) -> None:
        error = refused(shared_server, shared_server.known_hosts(), identity_file=tmp_path / "nowhere")
        assert str(tmp_path / "nowhere") in error.message

    def test_a_name_that_does_not_exist_is_named(self, shared_server: Server) -> None:
        error = refused(shared_server, shared_server.known_hosts(), address="no-such-host.invalid")
        assert "no-such-host.invalid not found" in error.message

    def test_a_busy_server_is_asked_again(self, serve: Callable[..., Server]) -> None:
        server = serve("MaxStartups 1:100:1", "LogLevel DEBUG1")
        holder = socket.create_connection(("127.0.0.1", server.port))
        threading.Timer(0.6, holder.close).start()
        with Remote(server.host(), inventory(known_hosts=server.known_hosts())) as remote:
            assert remote.run(Command("true")).ok
        assert "maxstartups" in server.log.lower()

    def test_one_hosts_key_is_never_offered_to_another(self, serve: Callable[..., Server]) -> None:
        first, second = serve(), serve()
        known = first.folder / "both"
        known.write_text(first.known() + second.known())
        both = inventory(first.host("n1"), second.host("n2"), known_hosts=known)
        with Remote(both.hosts[0], both), Remote(both.hosts[1], both):
            pass
        listing = subprocess.run(
            ["ssh-keygen", "-l", "-f", f"{first.client_key}.pub"], check=True, capture_output=True, text=True
        )
        fingerprint = listing.stdout.split()[1]
        assert fingerprint in first.log
        assert fingerprint not in second.log


class TestCommands:
    def test_output_and_exit_code_come_back(self, remote: Remote) -> None:
        result = remote.run(Command.script("echo out; echo err >&2; exit 7"))
        assert (result.exited, result.stdout, result.stderr) == (7, "out\n", "err\n")

    def test_words_arrive_as_they_are(self, remote: Remote) -> None:
        words = ["a b", "$(id)", "'", '"', ";rm", "*", ""]
        got = remote.run(Command("printf", "%s\n", *words)).stdout
        assert got.split("\n")[:-1] == words

    def test_input_reaches_the_command_whole(self, remote: Remote) -> None:
        data = bytes(range(256)) * 4096
        assert remote.run(Command("wc", "-c"), input=data).stdout.strip() == str(len(data))

    def test_a_checked_failure_says_what_the_command_said(self, remote: Remote) -> None:
        with pytest.raises(RemoteFailed, match=r"n1: .*exited 3: no such luck") as caught:
            remote.run(Command.script("echo no such luck >&2; exit 3"), check=True)
        assert not isinstance(caught.value, HostLost)

    def test_secrets_do_not_show_in_errors(self, remote: Remote) -> None:
        with pytest.raises(RemoteFailed) as caught:
            remote.run(Command("false", Secret("hunter2")), check=True)
        assert "hunter2" not in str(caught.value)
        assert remote.run(Command("echo", Secret("hunter2"))).stdout == "hunter2\n"

    @pytest.mark.parametrize("data", [None, b"x"])
    def test_a_command_that_takes_too_long_is_a_timeout(self, remote: Remote, data: bytes | None) -> None:
        with pytest.raises(RemoteTimeout, match="may still be running"):
            remote.run(Command("sleep", 3), timeout=0.5, input=data)
        assert remote.run(Command("true")).ok

    def test_sudo_covers_a_whole_pipeline(self, remote: Remote) -> None:
        if remote.run(Command("sudo", "-n", "true")).exited != 0:
            pytest.skip("no passwordless sudo on this machine")
        piped = Command("id", "-u", Raw("|"), "cat", Raw(";"), "id", "-u").sudo()
        assert remote.run(piped).stdout == "0\n0\n"

    def test_eight_threads_may_run_on_one_open_connection(self, remote: Remote) -> None:
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda n: remote.run(Command("echo", n)).stdout.strip(), range(8)))
        assert results == [str(n) for n in range(8)]


class TestLosingAHost:
    @pytest.mark.parametrize("data", [None, b""])
    def test_a_host_that_goes_away_mid_command_is_lost(
        self, serve: Callable[..., Server], data: bytes | None
    ) -> None:
        server = serve()
        with Remote(server.host(), inventory(known_hosts=server.known_hosts())) as remote:
            threading.Timer(0.5, server.cut).start()
            started = time.monotonic()
            with pytest.raises(HostLost):
                remote.run(Command("sleep", 20), input=data)
            assert time.monotonic() - started < 10
            with pytest.raises(HostLost):
                remote.run(Command("true"))
            with pytest.raises(HostLost):
                remote.put_bytes(b"x", str(server.folder / "never"))


class TestFiles:
    def test_a_put_file_is_whole_private_and_leaves_nothing_beside_it(
        self, remote: Remote, tmp_path: Path
    ) -> None:
        data = bytes(range(256)) * 2000
        target = tmp_path / "deep" / "er" / "file"
        remote.put_bytes(data, str(target), mode=0o640)
        remote.put_bytes(data[::-1], str(target), mode=0o640)
        assert target.read_bytes() == data[::-1]
        assert target.stat().st_mode & 0o777 == 0o640
        assert [p.name for p in target.parent.iterdir()] == ["file"]

    def test_a_fetched_file_is_whole_and_counted(self, remote: Remote, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"ab" * 500_000)
        assert remote.get(str(source), tmp_path / "copy") == 1_000_000
        assert (tmp_path / "copy").read_bytes() == source.read_bytes()

    def test_a_failed_fetch_leaves_the_old_file_and_no_part(self, remote: Remote, tmp_path: Path) -> None:
        copy = tmp_path / "folder" / "copy"
        copy.parent.mkdir()
        copy.write_text("old")
        with pytest.raises(RemoteFailed, match="No such file"):
            remote.get(str(tmp_path / "missing"), copy)
        assert [p.read_text() for p in copy.parent.iterdir()] == ["old"]

    def test_eight_threads_take_turns_at_one_host(self, remote: Remote, tmp_path: Path) -> None:
        def send(number: int) -> bytes:
            path = tmp_path / f"file{number}"
            remote.put_bytes(bytes([number]) * 100_000, str(path))
            return path.read_bytes()

        with ThreadPoolExecutor(8) as pool:
            for number, data in enumerate(pool.map(send, range(8), timeout=30)):
                assert data == bytes([number]) * 100_000
