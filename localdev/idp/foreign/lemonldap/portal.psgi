# LemonLDAP::NG's portal with its demonstration back end, whose people are those of people.json.

use strict;
use warnings;
use JSON ();
use Lemonldap::NG::Portal::Auth::Demo;
use Lemonldap::NG::Portal::Main;
use Lemonldap::NG::Portal::Main::Constants qw(PE_OK PE_BADCREDENTIALS);
use Lemonldap::NG::Portal::UserDB::Demo;

open my $in, '<', "$ENV{FOREIGN_DIR}/people.json" or die "people.json: $!";
my $people = JSON::decode_json( do { local $/; <$in> } );
close $in;

# In a session a list is one string.
sub values_of { my $list = shift; return $list && @$list ? join( '; ', @$list ) : undef }

%Lemonldap::NG::Portal::UserDB::Demo::demoAccounts = map {
    $_->{login} => {
        uid                 => $_->{login},
        email               => $_->{email},
        firstName           => $_->{firstName},
        lastName            => $_->{lastName},
        GROUPS              => values_of( $_->{groups} ),
        UID                 => $_->{uid},
        GID                 => $_->{gid},
        SUPPLEMENTARYGROUPS => values_of( $_->{supplementaryGroups} ),
    }
} @$people;
%Lemonldap::NG::Portal::UserDB::Demo::demoGroups = ();

# The demonstration takes a login as its own password.
my %password = map { $_->{login} => $_->{password} } @$people;
{
    no warnings 'redefine';
    *Lemonldap::NG::Portal::Auth::Demo::authenticate = sub {
        my ( $self, $req ) = @_;
        my $want = $password{ $req->{user} };
        return PE_OK if defined $want and $want eq $req->data->{password};
        $self->setSecurity($req);
        return PE_BADCREDENTIALS;
    };
}

# Its own run() answers every request with the same error where this dies.
my $portal = Lemonldap::NG::Portal::Main->new( {} );
$portal->init( {} ) or die 'the portal does not start: ' . $portal->error;
$portal->run;
