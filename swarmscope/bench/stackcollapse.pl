#!/usr/bin/perl
# Folds the text of `perf script` to lines "comm;outer;...;inner count": the yardstick for our own folding.
# Does to every line what FlameGraph's stackcollapse-perf.pl does to it with no options (which Debian 12 does not
# package), for samples that count once each; written anew. Reads files or standard input, prints sorted lines.
use strict;
use warnings;

my (%times, @frames, $comm);

while (defined(my $line = <>)) {
    next if $line =~ /^#/;
    chomp $line;
    if ($line =~ /^$/) {
        if (defined $comm) {
            $times{ join ";", $comm, @frames }++ if @frames;
            @frames = ();
            undef $comm;
        }
    }
    elsif ($line =~ /^(\S.*?)\s+-?\d+(?:\/-?\d+)?\s+/) {
        $comm = $1;
        $comm =~ tr/ /_/;
    }
    elsif ($line =~ /^\s*(\w+)\s*(.+) \((\S*)\)/) {
        next unless defined $comm;
        my ($function, $object) = ($2, $3);
        $function =~ s/\+0x[\da-f]+$//;
        next if $function =~ /^\(/;
        my @here;
        for my $name (split /\->/, $function) {
            if ($name eq "[unknown]") {
                $name = $object eq "[unknown]" ? "unknown" : $object;
                $name =~ s/.*\///;
                $name = "[$name]";
            }
            $name =~ s/;/:/g;
            $name =~ s/\((?!anonymous namespace\)).*// if $name !~ /\.\(.*\)\./;
            $name =~ tr/"'//d;
            push @here, $name;
        }
        unshift @frames, @here;
    }
}
$times{ join ";", $comm, @frames }++ if defined $comm && @frames;
print "$_ $times{$_}\n" for sort { $a cmp $b } keys %times;
