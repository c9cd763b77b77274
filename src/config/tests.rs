use super::*;

fn refused(text: &str) -> String {
    parse("cardline.toml", text)
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn the_least_that_runs_is_a_trunk() {
    let text =
        "[[trunk]]\nname = \"carrier\"\npeers = [\"198.51.100.0/24\"]\nproxy = \"sip:198.51.100.1:5060\"\n";
    let config = parse("cardline.toml", text).unwrap();
    assert_eq!(config.trunks.len(), 1);
    assert_eq!(config.trunks[0].proxy, Some("198.51.100.1:5060".parse().unwrap()));
    assert!(config.trunks[0].peers[0].contains("198.51.100.77".parse().unwrap()));
    assert!(!config.trunks[0].peers[0].contains("198.51.101.77".parse().unwrap()));
    assert_eq!(config.call, CallConfig::default());
}

#[test]
fn a_wrong_value_names_file_key_value_and_range() {
    for (text, words) in [
        (
            "[call]\nslice_s = 5\n",
            ["cardline.toml", "call.slice_s = 5", "from 10 to 3600"],
        ),
        (
            "[call]\nrenew_lead_s = 30\n",
            ["cardline.toml", "call.renew_lead_s", "over 62"],
        ),
        (
            "[call]\nslices = 5\n",
            ["cardline.toml", "line 2", "unknown field `slices`"],
        ),
        (
            "[media]\nports = \"9-7\"\n",
            ["cardline.toml", "9-7", "20000-29999"],
        ),
        (
            "[sip]\nlisten = [\"tls://1.2.3.4:5061\"]\n",
            ["cardline.toml", "tls://1.2.3.4:5061", "udp://"],
        ),
        (
            "[admin]\nhttp = \"192.0.2.1:80\"\n",
            ["cardline.toml", "admin.http: 192.0.2.1:80", "loopback"],
        ),
        (
            "[store]\ncheck_at = \"24:00\"\n",
            ["cardline.toml", "24:00", "03:30"],
        ),
        (
            "[store]\nurl = \"mysql://x\"\n",
            ["cardline.toml", "store.url", "sqlite://"],
        ),
        (
            "[[trunk]]\nname = \"a\"\npeers = []\n",
            ["cardline.toml", "trunk \"a\"", "peers"],
        ),
        (
            "[[trunk]]\nname = \"a\"\npeers = [\"1.2.3.4/33\"]\n",
            ["cardline.toml", "1.2.3.4/33", "range"],
        ),
        (
            "[[trunk]]\nname = \"a\"\npeers = [\"1.2.3.4\"]\nproxy = \"sip:name\"\n",
            ["cardline.toml", "sip:name", "proxy"],
        ),
    ] {
        let message = refused(text);
        for word in words {
            assert!(message.contains(word), "{text:?} gave {message:?}, want {word:?}");
        }
    }
}

#[test]
fn an_address_range_of_no_bits_holds_everything_of_its_kind() {
    let all = Cidr::parse("0.0.0.0/0").unwrap();
    assert!(all.contains("203.0.113.9".parse().unwrap()));
    assert!(!all.contains("2001:db8::1".parse().unwrap()));
    assert!(
        Cidr::parse("10.0.0.1")
            .unwrap()
            .contains("::ffff:10.0.0.1".parse().unwrap())
    );
}
