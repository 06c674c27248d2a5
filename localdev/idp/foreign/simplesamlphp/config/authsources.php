<?php
// The people, with the attributes that are asserted of them. SAML's values are strings, and a list is an attribute with several.

$settings = json_decode(file_get_contents(dirname(__DIR__) . '/settings.json'), true);

$people = ['exampleauth:UserPass'];
foreach ($settings['people'] as $p) {
    $people[$p['login'] . ':' . $p['password']] = [
        'uid' => [$p['login']],
        'email' => [$p['email']],
        'firstName' => [$p['firstName']],
        'lastName' => [$p['lastName']],
        'GROUPS' => $p['groups'] ?? [],
        'UID' => [strval($p['uid'])],
        'GID' => [strval($p['gid'])],
        'SUPPLEMENTARYGROUPS' => array_map('strval', $p['supplementaryGroups'] ?? []),
    ];
}
$config = ['people' => $people];
